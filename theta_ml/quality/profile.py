"""Stage `profile`: what the month holds, in numbers that people and charts can use."""

import json
from dataclasses import asdict, dataclass

from theta_ml.landing.parquet import file_name
from theta_ml.landing.snapshot import Snapshot
from theta_ml.quality.digest import SAMPLE, Description, find_or_digest
from theta_ml.quality.pages import write_profile
from theta_ml.quality.profile_record import record
from theta_ml.stage import Inputs, Stage, StageFailed, Work

PROFILE = "profile.json"


@dataclass(frozen=True)
class ProfileSpec:
    """What to describe."""

    month: str
    """Month to describe."""
    sample: int = SAMPLE
    """Conversations sampled for drift, which describes the month by the same digest."""
    seed: int = 0
    """Of the sample."""


@dataclass(frozen=True)
class Profile:
    """The month in numbers. Files report.html, self-contained, and profile.json: the same, and histograms of lengths,
    ratings, hours and days."""

    month: str
    statistics: dict[str, float]
    """Counts, shares (0-1), quantiles of lengths in characters, words or messages, and ratings where there are any."""
    topics: dict[str, int]
    """Conversations by first topic; `(none)` where there is none, `(other)` for all but the most frequent."""
    languages: dict[str, int]
    sources: dict[str, int]
    indicators: dict[str, float]
    """Shares (0-1) that damage moves."""


def profile(spec: ProfileSpec, inputs: Inputs, work: Work) -> Profile:
    """Raises StageFailed where the snapshot is of another month, StageRetry where the database is away."""
    snapshot = inputs.noun("snapshot", Snapshot)
    if snapshot.month != spec.month:
        raise StageFailed(f"the snapshot is of {snapshot.month}, not of {spec.month}")
    content = snapshot.files[file_name(spec.month)]
    digest = find_or_digest(work, inputs.path("snapshot"), spec.month, content, spec.sample, spec.seed)
    described = profile_of(digest.description)
    document = asdict(described) | {"histograms": digest.description.histograms}
    (work.path / PROFILE).write_text(json.dumps(document, indent=2) + "\n")
    write_profile(work.path / "report.html", digest.description)
    record(work, digest.description)
    counts = described.statistics
    work.events.log(f"{spec.month}: {counts['conversations']:,.0f} conversations, {counts['messages']:,.0f} messages")
    return described


def profile_of(description: Description) -> Profile:
    kinds = description.categories
    return Profile(
        description.month,
        description.statistics,
        kinds["topic"],
        kinds["language"],
        kinds["source"],
        description.indicators,
    )


def metrics(profile: Profile) -> dict[str, float]:
    """As MLflow's run of the month has them: `profile.NAME`."""
    return {f"profile.{name}": value for name, value in (profile.statistics | profile.indicators).items()}


STAGE = Stage("profile", 3, ProfileSpec, profile)
