"""Several machines (nodes) that train one model: where they meet, and what they must have in common.

Each runs the same `theta stage train …`, with a home of its own or a shared one. torchrun brings their processes
together; before the first step these compare whose training they were called to, and by which code.
"""

import os
import socket
import threading
from dataclasses import dataclass

from theta_ml.code import code_version
from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import StageRetry, Work
from theta_ml.store import Artifact
from theta_ml.training.stop import Stopped

LOOK_SECONDS = 1.0
"""Between two looks at the store: a bucket does not say when something arrives."""
AFTER_ANY_NAME = "~"
"""torchrun ranks the nodes by their addresses, as text, and uses none but the first one's."""


def node() -> int:
    """Of this process, as torchrun counts."""
    return int(os.environ.get("GROUP_RANK", "0"))


def node_count() -> int:
    """Nodes of this training."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def meeting(settings: Settings) -> list[str]:
    """torchrun's options that bring the nodes together, in the order of `train_node`.

    Raises SettingsError where it is not said which node this is, or where they meet.
    """
    if settings.train_nodes == 1:
        return ["--standalone"]
    host, port = meeting_place(settings)
    seconds = max(1, round(60 * settings.rendezvous_minutes))
    first = settings.train_node == 0
    times = f"join_timeout={seconds},read_timeout={seconds}"
    # One name for all: nodes that were called to different trainings must meet to find out.
    return [
        f"--nnodes={settings.train_nodes}",
        "--rdzv-backend=c10d",
        "--rdzv-id=theta",
        f"--rdzv-endpoint={host}:{port}",
        f"--rdzv-conf=is_host={str(first).lower()},{times}",
        f"--local-addr={host if first else f'{AFTER_ANY_NAME}{settings.train_node:06}'}",
    ]


def meeting_place(settings: Settings) -> tuple[str, int]:
    """Host and port. Raises SettingsError."""
    if settings.train_node >= settings.train_nodes:
        raise SettingsError(
            f"THETA_TRAIN_NODE is {settings.train_node}, of THETA_TRAIN_NODES={settings.train_nodes}: the first is 0, "
            f"the last {settings.train_nodes - 1}"
        )
    host, colon, port = (settings.rendezvous or "").rpartition(":")
    if not (colon and host and port.isdigit()):
        raise SettingsError(
            f"{settings.train_nodes} nodes train together, and THETA_RENDEZVOUS is {settings.rendezvous!r}: set it to "
            f"HOST:PORT of node 0, for example trainer-0:29400, the same on all"
        )
    return host, int(port)


def did_not_meet(settings: Settings) -> StageRetry:
    """torchrun ended before any process of this node began."""
    missing = "node 0" if settings.train_node else f"the other {settings.train_nodes - 1}"
    return StageRetry(
        f"node {settings.train_node} of {settings.train_nodes} waited {settings.rendezvous_minutes:g} minutes at "
        f"{settings.rendezvous} and {missing} did not come (torchrun says more above): run the same `theta stage "
        f"train …` there, with THETA_TRAIN_NODE set; is {settings.rendezvous} reachable from all?"
    )


@dataclass(frozen=True)
class Present:
    """What a process says of itself when the nodes meet."""

    node: int
    host: str
    code: str
    key: str
    """Of what it was called to train."""
    processes: int
    """Of its node."""


def call_roll(key: str) -> None:
    """All processes must call it. Raises StageRetry, in each of them, where they do not belong together."""
    from theta_ml.training.processes import said_by_all

    here = Present(node(), socket.gethostname(), code_version(), key, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    everyone = said_by_all(here)
    for other in everyone:
        require_alike(everyone[0], other)


def require_alike(first: Present, other: Present) -> None:
    """Raises StageRetry."""
    names = f"node {first.node} ({first.host})", f"node {other.node} ({other.host})"
    if first.code != other.code:
        raise StageRetry(
            f"{names[0]} runs code {first.code} and {names[1]} code {other.code}: install the same version of Theta on "
            f"both (`theta --version` tells it)"
        )
    if first.key != other.key:
        raise StageRetry(
            f"{names[0]} was called to train {first.key} and {names[1]} {other.key}: call both with the same month, "
            f"inputs, parameters and files of recipes; a champion that came in between ends with the next attempt"
        )
    if first.processes != other.processes:
        raise StageRetry(
            f"{names[0]} trains in {first.processes} processes and {names[1]} in {other.processes}: set "
            f"THETA_TRAIN_PROCESSES to the same number on both"
        )


def await_artifact(work: Work, stop: threading.Event) -> Artifact:
    """What node 0 writes. Raises Stopped, and StageRetry where it does not come."""
    work.events.log(f"node {work.settings.train_node} has done its part; node 0 writes the model")
    for _ in range(max(1, round(60 * work.settings.rendezvous_minutes / LOOK_SECONDS))):
        if found := work.store.find("train", work.key):
            return found
        if stop.wait(LOOK_SECONDS):
            raise Stopped
    raise StageRetry(
        f"node 0 did not write train/{work.key} to {work.settings.artifacts} within "
        f"{work.settings.rendezvous_minutes:g} minutes: its log says why; do both have the same THETA_ARTIFACTS_URL?"
    )
