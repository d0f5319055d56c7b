import threading
import time

import pytest

from theta_ml.settings import Settings
from theta_ml.stage import StageFailed
from theta_ml.tracking import (
    candidate_run,
    client,
    end_candidate,
    end_run,
    log_metrics,
    log_params,
    replay,
    retraining_run,
)


def test_several_at_once_make_one_run(settings: Settings) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(retraining_run(settings, "scheduled__2026-02", "2026-02")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_run_belongs_to_one_month(settings: Settings) -> None:
    retraining_run(settings, "by-hand", "2026-01")
    with pytest.raises(StageFailed, match="retrained 2026-01, not 2026-02"):
        retraining_run(settings, "by-hand", "2026-02")


def test_candidates_lie_under_the_retraining_and_are_not_taken_for_it(settings: Settings) -> None:
    first, other = (candidate_run(settings, "run", "2026-01", recipe) for recipe in ("continue", "scratch"))
    assert first == candidate_run(settings, "run", "2026-01", "continue") != other
    elsewhere = candidate_run(settings, "another run", "2026-01", "continue")
    parent = retraining_run(settings, "run", "2026-01")
    runs = {name: client(settings).get_run(name) for name in (first, other, elsewhere, parent)}
    assert len(runs) == 4
    assert runs[first].data.tags["mlflow.parentRunId"] == runs[other].data.tags["mlflow.parentRunId"] == parent
    assert runs[other].info.run_name == "2026-01 scratch"
    end_candidate(settings, first, 0.0)
    ended = client(settings).get_run(first).info
    assert ended.end_time == ended.start_time
    end_run(settings, "run", "FINISHED")
    states = {name: client(settings).get_run(name).info.status for name in (first, other, elsewhere, parent)}
    assert states == {first: "FINISHED", other: "FAILED", elsewhere: "RUNNING", parent: "FINISHED"}
    end_candidate(settings, other, time.time())  # its task was cleared
    end_run(settings, "run", "FAILED")
    assert [client(settings).get_run(name).info.status for name in (first, other)] == ["FINISHED"] * 2


def test_params_may_change_and_lost_points_are_added(settings: Settings) -> None:
    run = retraining_run(settings, "run", "2026-01")
    many = {f"p{number}": number for number in range(230)}  # more than one request may hold
    log_params(settings, run, {"rate": 0.1, **many})
    log_params(settings, run, {"rate": 0.2, "new": "x" * 9000})
    logged = client(settings).get_run(run).data
    assert (logged.params["rate"], logged.tags["param.rate"], len(logged.params["new"])) == ("0.1", "0.2", 6000)
    rows = [{"step": step, "loss": float(step), "note": "no number", "bad": float("nan")} for step in range(1200)]
    log_metrics(settings, run, rows[:700])
    assert replay(settings, run, rows) == 500
    assert replay(settings, run, rows) == 0
    assert sorted(point.step for point in client(settings).get_metric_history(run, "loss")) == list(range(1200))
    assert "bad" not in client(settings).get_run(run).data.metrics
    end_run(settings, "run", "FAILED")
    end_run(settings, "no such run", "FAILED")
    assert client(settings).get_run(run).info.status == "FAILED"
