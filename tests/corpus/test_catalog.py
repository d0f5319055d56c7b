"""The catalog: what is built in, a team's own entries over it, and errors that say what to write."""

from itertools import combinations, pairwise
from pathlib import Path

import polars as pl
import pytest

from theta_ml.corpus.catalog import CatalogError, Dataset, Missing, load_catalog, parse_entry, write_entry
from theta_ml.corpus.sources import fingerprint, read
from theta_ml.corpus.statistics import count
from theta_ml.settings import Settings

NAMED = {
    "basic_language", "everyday_chat", "technical_knowledge", "troubleshooting", "coding", "science", "mathematics",
    "philosophy", "history", "creative_writing", "empathy", "safety_and_refusals", "smartass",
}  # fmt: skip
GOOD = {"id": "own", "category": "c", "licence": "MIT", "source": "file", "path": "own.jsonl"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_the_named_sets_are_in_the_mixture(settings: Settings) -> None:
    catalog = load_catalog(settings)
    mixture = {dataset.id: dataset for dataset in catalog.mixture}
    assert mixture.keys() >= NAMED
    assert all(dataset.source == "starter" for dataset in mixture.values())
    assert catalog.landing.active
    assert "landing" not in mixture


def test_each_starter_set_has_at_least_sixty_conversations_and_no_bad_row(settings: Settings) -> None:
    counts = {dataset.id: count(dataset, settings) for dataset in load_catalog(settings).mixture}
    assert {name: found.rejected for name, found in counts.items() if found.rejected} == {}
    assert counts.pop("canaries").conversations == 10, "there to be found again, not to teach"
    assert {name: found.conversations for name, found in counts.items() if found.conversations < 60} == {}


def test_the_conversations_of_a_starter_set_are_distinct(settings: Settings) -> None:
    """Jaccard similarity of word pairs, between any two of a set; a template with its slots filled is above 0.4."""
    for dataset in load_catalog(settings).mixture:
        texts = [
            text.lower().split()
            for reading in read(dataset, settings)
            for text in reading.batch.messages.group_by("conversation").agg(pl.col("content").str.join(" "))["content"]
        ]
        pairs = [set(pairwise(words)) for words in texts]
        alike = max(len(one & other) / len(one | other) for one, other in combinations(pairs, 2))
        assert alike < 0.2, dataset.id


def test_public_sets_are_off_until_asked_for(settings: Settings) -> None:
    public = [dataset for dataset in load_catalog(settings).datasets if dataset.source == "hub"]
    assert {dataset.id for dataset in public} >= {"dolly", "alpaca", "no_robots"}
    assert not any(dataset.active for dataset in public)


def test_own_entries_change_fields_of_built_in_ones_and_add_others(settings: Settings, tmp_path: Path) -> None:
    before = load_catalog(settings)
    write_entry(settings, "smartass", {"weight": 0.5})
    write_entry(settings, "coding", {"enabled": False})
    write_entry(settings, "own", GOOD)
    write_entry(settings, "own", {"weight": 2})
    after = load_catalog(settings)
    assert after.get("smartass") == before.get("smartass").model_copy(update={"weight": 0.5})
    assert "coding" not in {dataset.id for dataset in after.mixture}
    assert after.get("own").weight == 2
    assert after.get("own").path == str(tmp_path / "own.jsonl"), "found from the catalog's folder"
    assert len(after.datasets) == len(before.datasets) + 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licence": "Foo"}, ["licence", "SPDX", "LicenseRef-"]),
        ({"licence": None}, ["licence"]),
        ({"weight": -1}, ["weight", "greater than or equal to 0"]),
        ({"format": "xml"}, ["format", "sharegpt"]),
        ({"wieght": 1}, ["wieght", "no such field", "weight"]),
        ({"path": None}, ["path", "file or glob"]),
        ({"source": "landing"}, ["path"]),
        ({"hub": "a/b"}, ["hub", "OWNER/NAME"]),
        ({"columns": {"answer": "x"}}, ["columns", "answer", "output"]),
        ({"id": "Mine!"}, ["id"]),
        ({"id": "2026-01"}, ["id", "months"]),
    ],
)
def test_an_entry_at_fault_is_named_with_its_field_and_the_remedy(
    change: dict[str, object], said: list[str], tmp_path: Path
) -> None:
    fields = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(CatalogError) as fault:
        parse_entry(fields, tmp_path / "catalog.yaml")
    message = str(fault.value)
    assert all(part in message for part in [str(tmp_path / "catalog.yaml"), str(fields["id"]), *said]), message


@pytest.mark.parametrize(
    "text",
    [
        "datasets: [",
        "datasets: 3",
        "- id: a",
        "dataset: []",
        "datasets:\n- category: c",
        "datasets:\n- {id: a}\n- {id: a}",
        "\xff",
    ],
)
def test_a_catalog_that_makes_no_sense_is_named(text: str, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(CatalogError, match=r"catalog\.yaml"):
        load_catalog(settings)


def test_a_catalog_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="THETA_CATALOG"):
        load_catalog(Settings(home=tmp_path, catalog=tmp_path / "gone.yaml"))
    assert load_catalog(Settings(home=tmp_path, catalog=tmp_path / "gone.yaml"), beginning=True).get("smartass")


def test_licences_are_spelled_as_spdx_spells_them(tmp_path: Path) -> None:
    assert parse_entry(GOOD | {"licence": "cc-by-sa-3.0 or mit"}, tmp_path).licence == "CC-BY-SA-3.0 OR MIT"


def test_an_entry_whose_file_is_gone_is_named_with_the_remedy(settings: Settings, tmp_path: Path) -> None:
    dataset: Dataset = parse_entry(GOOD, tmp_path / "catalog.yaml")
    for attempt in (lambda: list(read(dataset, settings)), lambda: fingerprint(dataset, settings)):
        with pytest.raises(Missing) as fault:
            attempt()
        for part in ("dataset own", str(tmp_path / "own.jsonl"), "theta data add own --path", "--disable"):
            assert part in str(fault.value)
