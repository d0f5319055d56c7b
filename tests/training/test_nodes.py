"""Several machines that train one model: here two homes, two torchruns and one store."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.packed import Packed, database, packed
from tests.training.test_processes import STOP_AT, TOLERANCE, Training, alone, same
from theta_ml.bench.stack import free_ports
from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import StageRetry
from theta_ml.store import Store
from theta_ml.training.nodes import Present, meeting, require_alike

__all__ = ["alone", "database", "packed"]  # fixtures
NODES = 2


def rendezvous() -> str:
    (port,) = free_ports(1)
    return f"127.0.0.1:{port}"


def test_two_nodes_match_one_process_and_go_on_from_what_the_first_kept(
    tmp_path: Path, alone: tuple[list[list[Any]], dict[str, torch.Tensor]]
) -> None:
    """Each with a folder of its own: the second one's checkpoints come from the first."""
    place, out = rendezvous(), tmp_path / "out.json"
    runs = []
    for number in range(NODES):
        settings = Settings(train_nodes=NODES, train_node=number, rendezvous=place, rendezvous_minutes=1)
        folders = {"folder": str(tmp_path / f"node-{number}"), "copy": str(tmp_path / "copy"), "out": str(out)}
        asked = json.dumps(folders | {"sharded": False, "stop_at": STOP_AT})
        command = [sys.executable, "-m", "torch.distributed.run", *meeting(settings), "--nproc-per-node=1"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        runs.append(subprocess.Popen([*command, "-m", "tests.training.together", asked], env=environment))
    assert [run.wait(120) for run in runs] == [0, 0]
    told = json.loads(out.read_text())
    assert told["from"] == STOP_AT
    same(told["curve"], alone[0])
    assert all(
        (torch.tensor(told["weights"][name]) - alone[1][name]).abs().max() < TOLERANCE for name in told["weights"]
    )
    kept = [sorted(path.name for path in (tmp_path / f"node-{number}").glob("*-*")) for number in range(NODES)]
    assert kept[0] and set(kept[1]) & set(kept[0])


def node(packed: Packed, home: Path, place: str, number: int, *settings: str, **more: str) -> Training:
    given = {
        "THETA_ARTIFACTS_URL": str(packed.home / "artifacts"),
        "THETA_TRAIN_NODES": str(NODES),
        "THETA_TRAIN_NODE": str(number),
        "THETA_TRAIN_PROCESSES": "1",
        "THETA_RENDEZVOUS": place,
        "OMP_NUM_THREADS": "1",
    }
    return Training(replace(packed, home=home), *settings, **(given | more))


def test_two_nodes_make_what_one_makes_in_two_processes(packed: Packed, tmp_path: Path) -> None:
    place, settings = rendezvous(), ("max_steps=8", "seed=11")
    shutil.copytree(packed.home / "artifacts", tmp_path / "other")
    nodes = [node(packed, tmp_path / f"home-{number}", place, number, *settings) for number in range(NODES)]
    results = [each.await_event("result") for each in nodes]
    assert [each.process.wait(60) for each in nodes] == [0, 0]
    assert results[0]["uri"] == results[1]["uri"]
    single = Training(
        replace(packed, home=tmp_path / "home"), *settings,
        THETA_ARTIFACTS_URL=str(tmp_path / "other"), OMP_NUM_THREADS="1",
    )  # fmt: skip
    result = single.await_event("result")
    assert single.process.wait(60) == 0
    assert result["key"] == results[0]["key"]
    together = Store(str(packed.home / "artifacts"), tmp_path / "cache").open(results[0]["uri"])
    one = Store(str(tmp_path / "other"), tmp_path / "cache").open(result["uri"])
    model, other = (load_file(each.path / "model" / "model.safetensors") for each in (together, one))
    assert all((model[name] - other[name]).abs().max() < TOLERANCE for name in other)


@pytest.mark.faults
def test_nodes_that_were_called_to_different_work_say_so_and_a_missing_one_is_not_waited_for_for_ever(
    packed: Packed, tmp_path: Path
) -> None:
    place = rendezvous()
    nodes = [node(packed, tmp_path / str(number), place, number, f"seed={20 + number}") for number in range(NODES)]
    for each in nodes:
        error = each.await_event("error")
        assert error["kind"] == "retry" and "was called to train" in error["message"], error
        assert each.process.wait(60) == 75
    lonely = node(packed, tmp_path / "0", rendezvous(), 0, "seed=22", THETA_RENDEZVOUS_MINUTES="0.05")
    error = lonely.await_event("error")
    assert error["kind"] == "retry" and "the other 1 did not come" in error["message"], error


def test_nodes_must_have_the_same_code() -> None:
    first = Present(0, "alpha", "aaaaaaaaaaaa", "key", 1)
    require_alike(first, replace(first, node=1, host="beta"))
    with pytest.raises(StageRetry, match=r"node 0 \(alpha\) runs code aaaaaaaaaaaa and node 1 \(beta\) code bbbbbbbb"):
        require_alike(first, replace(first, node=1, host="beta", code="bbbbbbbb"))
    with pytest.raises(StageRetry, match="THETA_TRAIN_PROCESSES to the same number"):
        require_alike(first, replace(first, node=1, processes=2))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "HOST:PORT of node 0"),
        ({"rendezvous": "trainer-0"}, "HOST:PORT of node 0"),
        ({"rendezvous": "trainer-0:29400", "train_node": 2}, "the first is 0, the last 1"),
    ],
)
def test_settings_that_do_not_say_where_nodes_meet_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        meeting(Settings(train_nodes=2, **given))
