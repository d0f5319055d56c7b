"""Stage `retain`: old versions leave, with their files; see `theta_ml.registry.retention`. So does what writers left in
a bucket that were killed long ago, and shards of conversations that no snapshot or corpus took."""

import time
from dataclasses import dataclass

from theta_ml import parts
from theta_ml.corpus.spooled import SPOOL
from theta_ml.landing.shards import EXTRACT
from theta_ml.registry.retention import Retention, prune
from theta_ml.stage import Inputs, Stage, Work
from theta_ml.store import STALE_SECONDS


@dataclass(frozen=True)
class RetainSpec:
    month: str
    """Month of the run; nothing depends on it."""


def retain(spec: RetainSpec, inputs: Inputs, work: Work) -> Retention:
    done = prune(work.settings, work.settings.keep_versions)
    left = work.store.sweep()
    if left:
        work.events.log(f"{left} uploads that were broken off long ago were removed")
    orphans = parts.remove_orphans(work.store, (EXTRACT, SPOOL), time.time() - STALE_SECONDS)
    if orphans:
        work.events.log(f"{orphans} shards that no snapshot or corpus took were removed")
    went = f"versions {', '.join(map(str, done.removed))} went" if done.removed else "nothing went"
    work.events.log(f"{len(done.kept)} versions are kept; {went}, {done.freed_bytes / 1e6:.1f} MB")
    return done


STAGE = Stage(name="retain", version=1, spec=RetainSpec, function=retain, effects=True)
