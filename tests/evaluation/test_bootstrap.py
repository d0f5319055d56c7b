import numpy as np

from theta_ml.evaluation.bootstrap import bits_per_byte, interval, p_better, p_worse, resampled_differences
from theta_ml.evaluation.holm import holm

TRUE_DIFFERENCE = -0.05


def _sample(random: np.random.Generator, conversations: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Conversations of very unequal length, each harder or easier for both models alike: what pairing is for."""
    size = np.rint(random.lognormal(5, 1, conversations)) + 20
    hardness = random.normal(2.5, 0.5, conversations)
    gain = TRUE_DIFFERENCE + random.normal(0, 0.1, conversations)
    champion = hardness * size * np.log(2)
    return champion + gain * size * np.log(2), champion, size


def test_bits_per_byte_is_a_ratio_of_sums() -> None:
    nats, sizes = np.array([8.0, 0.0]) * np.log(2), np.array([1.0, 7.0])
    assert bits_per_byte(nats, sizes) == 1.0  # the mean of the ratios would be 4


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    covered = 0
    for trial in range(300):
        between = interval(resampled_differences(*_sample(random, 120), resamples=1000, seed=trial))
        covered += between.low <= TRUE_DIFFERENCE <= between.high
    assert 0.90 <= covered / 300 <= 0.98  # nominal 0.95; a percentile interval of 120 skewed values is a little short


def test_no_difference_is_seldom_seen_as_one() -> None:
    random = np.random.default_rng(12)
    worse = 0
    for trial in range(300):
        candidate, champion, size = _sample(random, 60)
        differences = resampled_differences(candidate - TRUE_DIFFERENCE * size * np.log(2), champion, size, 1000, trial)
        worse += p_worse(differences, tolerance=0.0) < 0.05
    assert worse / 300 <= 0.09


def test_the_same_seed_gives_the_same_interval_and_chunks_change_nothing() -> None:
    sample = _sample(np.random.default_rng(13), 5000)  # 10,000 resamples of these take several chunks
    first, again = (resampled_differences(*sample, resamples=2000, seed=1) for _ in range(2))
    assert len(first) == 2000
    assert np.array_equal(first, again)
    assert abs(first.mean() - bits_per_byte(sample[0] - sample[1], sample[2])) < 0.001


def test_holm_matches_the_worked_example() -> None:
    # Four tests; by hand: 4 · 0.005, 3 · 0.01, 2 · 0.03, and 0.04 lifted to what stands before it.
    assert np.allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_holm_refuses_a_true_hypothesis_no_more_often_than_it_says() -> None:
    random = np.random.default_rng(14)
    uniform = random.uniform(size=(4000, 20))  # twenty slices, none of them worse
    refused = sum(min(holm(row)) < 0.05 for row in uniform.tolist()) / 4000
    assert 0.04 <= refused <= 0.06
    uncorrected = float((uniform.min(axis=1) < 0.05).mean())
    assert uncorrected > 0.6  # what the correction is for


def test_holm_never_orders_anew_and_never_exceeds_one() -> None:
    random = np.random.default_rng(15)
    for _ in range(50):
        raw = random.uniform(size=random.integers(1, 12)).tolist()
        adjusted = holm(raw)
        assert all(p <= q <= 1 for p, q in zip(raw, adjusted, strict=True))
        assert np.all(np.diff(np.array(adjusted)[np.argsort(raw)]) >= 0)


def test_the_two_p_values_are_of_the_two_sides() -> None:
    candidate, champion, size = _sample(np.random.default_rng(16), 400)
    differences = resampled_differences(candidate, champion, size, 2000, 1)  # truly −0.05
    assert p_better(differences, 0.0) < 0.001 < p_better(differences, 0.06)
    assert p_worse(differences, 0.0) == 1.0
    assert p_better(-differences, 0.02) == p_worse(differences, 0.02)


def test_a_p_value_agrees_with_the_interval() -> None:
    random = np.random.default_rng(17)
    for trial in range(40):
        differences = resampled_differences(*_sample(random, 80), resamples=2000, seed=trial)
        high = interval(differences).high
        for effect in (0.0, 0.03, 0.05):  # the whole 95 % interval better: a one-sided test at 2.5 %
            if abs(high + effect) > 0.001:
                assert (high < -effect) == (p_better(differences, effect) < 0.025)
