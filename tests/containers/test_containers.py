"""The whole of Theta in containers: up, retrained, and with a worker killed in the middle of its work."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import settings_of
from tests.containers.elsewhere import dump, embedded, retrained
from tests.containers.engine import Engine, engine, missing
from tests.containers.images import BASE, THETA, make_images
from tests.containers.stack import Containers, running, until
from theta_ml.cli.airflow import DAG, Airflow
from theta_ml.code import code_version

REASON = missing()
pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
]


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with engine() as found:
        yield found


@pytest.fixture(scope="module")
def files(docker: Engine) -> list[str]:
    return make_images(docker)


@pytest.fixture(scope="module")
def stack(docker: Engine, files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with running(docker, files, tmp_path_factory.mktemp("containers")) as found:
        yield found


def test_the_image(docker: Engine, files: list[str]) -> None:
    said = docker.docker("run", "--rm", "--network=none", THETA, "theta", "--version")
    assert said.strip().endswith(code_version())
    assert docker.docker("run", "--rm", "--network=none", THETA, "id", "-u").strip() == "1000"
    described = json.loads(docker.docker("inspect", THETA))[0]
    assert described["Config"]["Healthcheck"]
    size = described["Size"] / 2**30
    print(f"{THETA}: {size:.2f} GiB on {BASE}")  # noqa: T201
    assert size < 4.5, "a layer holds what another one holds already"
    history = docker.docker("history", "--no-trunc", THETA)
    assert "PIP_" not in history  # how the packages came is of no concern to who runs it


@pytest.fixture(scope="module")
def landed(stack: Containers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two months of conversations, and Theta's database with nothing else in it yet, as a dump."""
    stack.theta("simulate", "--months", "2")
    return dump(stack.env["THETA_DATABASE_URL"], tmp_path_factory.mktemp("landed") / "theta.sql")


@pytest.fixture(scope="module")
def first(stack: Containers, landed: Path) -> dict[str, Any]:
    """The first month's run, with its decision."""
    run: dict[str, Any] = json.loads(stack.theta("retrain", "--month", "2026-01", "--bootstrap", "--wait", "--json"))
    assert run["state"] == "success", stack.faults()
    return run


def made_by(stack: Containers, run_id: str) -> dict[str, dict[str, str]]:
    with Airflow(settings_of(stack.env)) as airflow:
        return airflow.artifacts(run_id)


def test_a_run_goes_through_the_workers_to_a_promotion(stack: Containers, first: dict[str, Any]) -> None:
    assert first["decision"]["decision"] == "bootstrap"
    assert json.loads(stack.theta("champion", "--json"))["month"] == "2026-01"
    default, gpu = stack.containers("worker-default"), stack.containers("worker-gpu")
    hosts = {each["task_id"]: each["hostname"] for each in tasks(stack, first["run_id"])}
    assert hosts["snapshot"] in default
    assert hosts["prepare"] in default
    assert hosts["train"] in gpu
    assert hosts["evaluate"] in gpu
    made = made_by(stack, first["run_id"])
    assert made["decide"]["uri"].startswith("s3://theta/artifacts/decide/")
    assert {each["code"] for each in made.values() if "uri" in each} == {code_version()}
    assert "steps will take about" in log_of(stack, first["run_id"], "preflight", 1, 0)


def test_a_killed_worker_costs_time_and_nothing_else(stack: Containers) -> None:
    begun = json.loads(stack.theta("retrain", "--month", "2026-02", "--json"))["run_id"]
    victim = until("a training writes checkpoints", lambda: trains(stack, begun), 900, stack.faults)
    stack.engine.docker("kill", stack.containers("worker-gpu")[victim])
    killed = time.monotonic()
    with Airflow(settings_of(stack.env)) as airflow:
        until("the run is over", lambda: airflow.run(begun).finished, 1800, stack.faults)
        assert airflow.run(begun).state == "success"
    print(f"over {time.monotonic() - killed:.0f} s after the kill")  # noqa: T201
    rows = json.loads(stack.theta("ledger", "--json"))
    row = next(row for row in rows if row["run_id"] == begun)
    assert row["decision"] == "promoted"
    train = next(each for each in tasks(stack, begun) if each["task_id"] == "train")
    assert train["try_number"] > 1
    assert train["hostname"] != victim
    assert "going on from step" in log_of(stack, begun, "train", train["try_number"], train["map_index"])


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_the_same_month_elsewhere_makes_the_same(
    stack: Containers, first: dict[str, Any], landed: Path, remote: bool, tmp_path: Path, request: Any
) -> None:
    made = made_by(stack, first["run_id"])
    here = {name: made[name]["key"] for name in ("snapshot", "prepare[continue]")} | {"decision": "bootstrap"}
    root = request.getfixturevalue("bucket") if remote else ""
    variables = {"THETA_ARTIFACTS_URL": f"{root}/artifacts", "THETA_MLFLOW_ARTIFACTS_URL": f"{root}/mlflow"}
    with embedded(tmp_path / "theta", landed, variables if remote else {}) as env:
        assert retrained(env, "--month", "2026-01", "--bootstrap") == here


def test_an_image_without_the_gpu_s_library_says_so(stack: Containers, first: dict[str, Any]) -> None:
    corpus = made_by(stack, first["run_id"])["prepare[continue]"]["uri"]
    stage = ["theta", "stage", "preflight", "--month", "2026-01", "--input", corpus, "--set", "seed=2"]
    with pytest.raises(AssertionError, match="no GPU is visible, and THETA_REQUIRE_GPU asks for one"):
        stack.compose("exec", "-T", "-e", "THETA_REQUIRE_GPU=true", "worker-gpu", *stage)


def tasks(stack: Containers, run_id: str) -> list[dict[str, Any]]:
    """Airflow's account of each task instance of the run."""
    answer = ask(stack, f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances?limit=100")
    found: list[dict[str, Any]] = answer.json()["task_instances"]
    return found


def log_of(stack: Containers, run_id: str, task: str, attempt: int, index: int = -1) -> str:
    """The log as Airflow's pages have it."""
    place = f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/{task}/logs/{attempt}"
    return ask(stack, f"{place}?map_index={index}&full_content=true").text


def ask(stack: Containers, path: str) -> httpx.Response:
    login = {"username": "admin", "password": stack.env["THETA_AIRFLOW_PASSWORD"]}
    with httpx.Client(base_url=stack.env["THETA_AIRFLOW_URL"], timeout=60) as client:
        token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
    return answer.raise_for_status()


def trains(stack: Containers, run_id: str) -> str | None:
    """Host name of the container in which the run's training has written a checkpoint."""
    train = next((each for each in tasks(stack, run_id) if each["task_id"] == "train"), None)
    if train is None or train["state"] != "running":
        return None
    container = stack.containers("worker-gpu").get(train["hostname"])
    if container is None:
        return None
    # Later than the one of step 0, which each training begins with.
    find = ["find", "/var/lib/theta/checkpoints", "-path", "*/step-[1-9]*/_COMPLETE", "-newermt", train["start_date"]]
    written = stack.engine.docker("exec", container, *find, check=False)
    return str(train["hostname"]) if written.strip() else None
