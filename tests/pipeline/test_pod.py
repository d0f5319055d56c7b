"""Stages in pods: provider, client and command are real, the cluster is `tests.pipeline.cluster`."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from tenacity import stop_after_attempt
from theta_airflow.pod import PodOperator
from theta_airflow.pod_spec import pod_environment, secret_names
from theta_airflow.stage_operator import StageOperator

from tests.corpus.snapshots import write_artifact
from tests.pipeline.cluster import NAMESPACE, Cluster, serving
from theta_ml.bench.stack import free_ports
from theta_ml.code import code_version
from theta_ml.settings import Settings
from theta_ml.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
SECRETS = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "quite-secret"}
SCRIPTED = f"""#!{sys.executable}
import os, signal, sys, threading
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from theta_ml.cli import stage
from theta_ml.events import Events
home, kind = Path(os.environ["THETA_HOME"]), os.environ["HF_KIND"]
home.mkdir(parents=True, exist_ok=True)
with (home / "started").open("a") as started:
    print(sys.argv[1:], file=started)
def save(number, frame):
    (home / "checkpoint").write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
with Events("scripted") as events:
    print("plain output")
    events.log("ready")
    if kind == "wait":
        while not (home / "go").exists():
            threading.Event().wait(0.05)
    if kind != "wait":
        events.error("failed", "no good")
        sys.exit(int(kind))
    events.result("s3://x/train/k", "k", False)
"""


class Memory(dict[str, Any]):
    """Airflow's task state, which outlives an attempt."""

    def set(self, name: str, value: Any) -> None:
        self[name] = value


def context(state: Memory | None = None, inputs: list[str] | None = None, attempt: int = 1) -> Any:
    taken = [{"uri": uri, "code": code_version()} for uri in inputs or []]
    ti = SimpleNamespace(
        dag_id="theta_retrain", task_id="train", map_index=-1, try_number=attempt, get_task_states=None,
        xcom_pull=lambda task_ids: taken, xcom_push=lambda key, value: None,
    )  # fmt: skip
    run = SimpleNamespace(dag_id="theta_retrain", run_id="manual__1", run_type="manual")
    params = {"month": "2026-01"}
    return {
        "ti": ti, "dag": DAG("theta_retrain"), "dag_run": run, "run_id": run.run_id, "params": params,
        "task_state_store": state,
    }  # fmt: skip


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Of the scripted stage."""
    (tmp_path / "image").mkdir()
    program = tmp_path / "image" / "theta"
    program.write_text(SCRIPTED)
    program.chmod(0o755)
    return program.parent


@pytest.fixture
def cluster(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """With settings of a worker that sends stages there."""
    images = {"theta:scripted": image, "theta:1": Path(sys.executable).parent}
    made = Cluster(tmp_path / "volumes", images, {"theta": SECRETS})
    for name in [name for name in os.environ if name.startswith(("THETA_", "MLFLOW_", "AWS_", "HF_"))]:
        monkeypatch.delenv(name)
    given = {
        "THETA_TRAIN_ON": "kubernetes",
        "THETA_HOME": str(tmp_path / "home"),
        "THETA_IMAGE": "theta:scripted",
        "THETA_ARTIFACTS_URL": "s3://theta/artifacts",
        "THETA_POD_NAMESPACE": NAMESPACE,
        "THETA_POD_GPUS": "2",
        "HF_KIND": "wait",
        **SECRETS,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    kubeconfig = tmp_path / "kubeconfig"
    extra = {"kube_config_path": str(kubeconfig)}
    connection = {"conn_type": "kubernetes", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
    with serving(made, kubeconfig):
        yield made


class Attempt(threading.Thread):
    """Of a task, as its worker runs it."""

    def __init__(self, around: Any) -> None:
        super().__init__(daemon=True)
        self.task, self.around = StageOperator(stage="train", gpu=True), around
        self.outcome: Any = None

    def run(self) -> None:
        try:
            self.outcome = self.task.execute(self.around)
        except AirflowException as error:
            self.outcome = error

    def end(self) -> Any:
        self.join(30)
        assert not self.is_alive()
        return self.outcome


def home_of(cluster: Cluster) -> Path:
    (pod,) = cluster.pods
    return cluster.folder / f"{pod}-home"


def await_line(cluster: Cluster, text: str) -> None:
    (pod,) = cluster.pods.values()
    with pod.changed:
        assert pod.changed.wait_for(lambda: any(text in line for line in pod.lines), 20)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    S3FileSystem.clear_instance_cache()  # a client keeps the server that it began with
    boto3.client("s3").create_bucket(Bucket="theta")
    try:
        yield "s3://theta/artifacts"
    finally:
        S3FileSystem.clear_instance_cache()
        server.stop()


def test_a_stage_in_a_pod_reads_and_writes_the_bucket_and_its_result_is_the_tasks(
    cluster: Cluster, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THETA_IMAGE", "theta:1")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    store = Store(bucket, tmp_path / "cache")
    train = write_artifact(store, "train", {"recipe": "continue", "parameters": 7})
    with DAG("theta_retrain"):
        StageOperator(stage="train", gpu=True)
        task = StageOperator(stage="select", takes=["train"], gpu=True)
    made = task.execute(context(Memory(), [train]))
    log = capsys.readouterr().out
    assert made["uri"] == f"{bucket}/select/{made['key']}" and made["code"] == code_version()
    assert Store(bucket, tmp_path / "other").open(made["uri"]).document["value"]["train"] == train
    assert "continue is the only candidate." in log
    assert not cluster.pods
    (pod,) = cluster.created
    (container,) = pod["spec"]["containers"]
    assert container["args"] == [
        "theta",
        "stage",
        "select",
        "--month",
        "2026-01",
        "--run",
        "manual__1",
        "--input",
        train,
    ]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert pod["spec"]["terminationGracePeriodSeconds"] == 60 and pod["spec"]["restartPolicy"] == "Never"
    assert not any(secret in json.dumps(pod) for secret in SECRETS.values())
    assert "must hold: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in log


@pytest.mark.parametrize(
    ("code", "raised"), [("65", AirflowFailException), ("99", AirflowSkipException), ("75", AirflowException)]
)
def test_a_pods_exit_code_means_what_a_childs_does(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, code: str, raised: type[AirflowException]
) -> None:
    monkeypatch.setenv("HF_KIND", code)
    attempt = Attempt(context(Memory()))
    attempt.start()
    outcome = attempt.end()
    assert type(outcome) is raised and str(outcome) == "no good"
    assert not cluster.pods


def test_a_pod_that_is_out_of_memory_or_has_no_image_says_so(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Attempt(context(Memory()))
    attempt.start()
    cluster.until(1)
    await_line(cluster, "ready")
    cluster.out_of_memory = True
    (pod,) = cluster.pods.values()
    assert pod.process
    os.killpg(pod.process.pid, signal.SIGKILL)
    assert "OOMKilled" in str(attempt.end())
    monkeypatch.setenv("THETA_IMAGE", "theta:gone")
    attempt = Attempt(context(Memory()))
    attempt.start()
    assert "theta:gone: not found" in str(attempt.end())
    assert not cluster.pods


def test_a_killed_task_deletes_its_pod_which_has_time_for_a_checkpoint(cluster: Cluster) -> None:
    attempt = Attempt(context(Memory()))
    attempt.start()
    cluster.until(1)
    await_line(cluster, "ready")
    home = home_of(cluster)
    attempt.task.on_kill()
    cluster.until(0)
    assert cluster.graces == [60]
    assert (home / "checkpoint").read_text() == "saved"
    assert isinstance(attempt.end(), AirflowException)


WORKER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from tests.pipeline.test_pod import Attempt, context
print(Attempt(context(attempt=1)).run())
"""


def test_a_pod_outlives_a_worker_that_is_killed_and_the_next_attempt_goes_on_listening(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by its labels: a worker that dies so early has noted nothing."""
    with subprocess.Popen([sys.executable, "-c", WORKER, json.dumps(sys.path)], cwd=REPOSITORY) as worker:
        cluster.until(1, 60)
        await_line(cluster, "ready")
        worker.kill()
    home = home_of(cluster)
    attempt = Attempt(context(Memory(), attempt=2))
    attempt.start()
    (home / "go").touch()
    outcome = attempt.end()
    assert outcome["uri"] == "s3://x/train/k"
    assert "ready" in capsys.readouterr().out  # from its first line
    assert len(cluster.created) == 1 and len((home / "started").read_text().splitlines()) == 1
    assert list(cluster.ended.values()) == [0]


def test_the_other_nodes_of_a_training_are_pods_that_go_with_the_first(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_TRAIN_NODES", "2")
    monkeypatch.setenv("THETA_POD_CLAIM", "checkpoints")
    monkeypatch.setenv("THETA_POD_TEMPLATE", str(REPOSITORY / "docs" / "kubernetes" / "gpu-pod.yaml"))
    attempt = Attempt(context(Memory()))
    attempt.start()
    cluster.until(2)
    first, second = cluster.created
    assert second["metadata"]["name"] == f"{first['metadata']['name']}-1"
    (container,) = second["spec"]["containers"]
    assert container["args"] == first["spec"]["containers"][0]["args"]
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": "2"}
    assert first["spec"]["tolerations"] == second["spec"]["tolerations"] != []
    assert {"name": "THETA_TRAIN_NODE", "value": "1"} in container["env"]
    (home,) = (each for each in first["spec"]["volumes"] if each["name"] == "home")
    assert home["persistentVolumeClaim"]["claimName"] == "checkpoints"
    assert not any("persistentVolumeClaim" in volume for volume in second["spec"]["volumes"])
    (cluster.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (cluster.folder / "checkpoints" / "go").touch()
    assert attempt.end()["key"] == "k"
    cluster.until(0)


def test_a_training_whose_other_nodes_are_refused_leaves_no_pod_with_a_gpu(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_TRAIN_NODES", "3")
    cluster.quota = 2
    attempt = Attempt(context(Memory()))
    attempt.start()
    outcome = attempt.end()
    assert isinstance(outcome, AirflowException) and not isinstance(outcome, AirflowFailException)
    assert "exceeded quota" in str(outcome) and len(cluster.created) == 2
    cluster.until(0)


def test_a_pod_that_cannot_work_is_not_started(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [
        ("THETA_ARTIFACTS_URL", "/var/theta", "set THETA_ARTIFACTS_URL to a bucket"),
        ("THETA_IMAGE", None, "set THETA_IMAGE"),
        ("THETA_POD_TEMPLATE", "/nowhere.yaml", "/nowhere.yaml is no pod"),
    ]
    for name, value, reason in wrong:
        with monkeypatch.context() as patch:
            patch.delenv(name) if value is None else patch.setenv(name, value)
            with pytest.raises(AirflowFailException, match=reason):
                StageOperator(stage="train", gpu=True).execute(context())
    own = Path(os.environ["THETA_HOME"]) / "recipes"
    own.mkdir(parents=True)
    (own / "continue.yaml").write_text("about: Another one\n")
    with pytest.raises(AirflowFailException, match=r"recipe continue is .*/recipes/continue.yaml, .* THETA_RECIPES"):
        StageOperator(stage="train", values={"recipe": "continue"}, gpu=True).execute(context())
    assert not cluster.created


def test_a_pod_that_lacks_a_file_that_the_settings_name_says_so_before_it_works(
    cluster: Cluster, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_IMAGE", "theta:1")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("THETA_CATALOG", "/etc/of-the-worker")  # no stage reads it in a pod
    monkeypatch.setenv("THETA_BENCHMARKS", "/etc/of-the-worker")
    with pytest.raises(AirflowFailException, match="THETA_BENCHMARKS is /etc/of-the-worker, which is not in this pod"):
        StageOperator(stage="preflight", gpu=True).execute(context(Memory()))
    assert len(cluster.created) == 1 and not cluster.pods


def test_a_pod_stays_where_the_cluster_does_not_answer_and_the_next_attempt_listens_to_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PodManager.read_pod.retry, "stop", stop_after_attempt(1))
    state = Memory()
    attempt = Attempt(context(state))
    attempt.start()
    cluster.until(1)
    await_line(cluster, "ready")
    (pod,) = cluster.pods.values()
    home, cluster.away = home_of(cluster), True
    pod.say(b"never heard\n")
    outcome = attempt.end()
    assert isinstance(outcome, AirflowException) and "being restarted (HTTP 503)" in str(outcome)
    cluster.away = False
    assert list(cluster.pods.values()) == [pod] and not cluster.graces
    attempt = Attempt(context(state, attempt=2))
    attempt.start()
    (home / "go").touch()
    assert attempt.end()["key"] == "k" and len(cluster.created) == 1


@pytest.mark.parametrize("there", [True, False], ids=["configured", "not configured"])
def test_a_cluster_that_is_away_is_tried_again_and_none_is_a_setting(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    if there:
        config = json.loads((tmp_path / "kubeconfig").read_text())
        config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{free_ports(1)[0]}"
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setattr(PodOperator.find_pod.retry, "stop", stop_after_attempt(1))
    else:
        monkeypatch.delenv("AIRFLOW_CONN_KUBERNETES_DEFAULT")
    with pytest.raises(AirflowException) as raised:
        StageOperator(stage="train", gpu=True).execute(context())
    assert isinstance(raised.value, AirflowFailException) is not there
    assert ("does not answer" if there else "no Kubernetes cluster is configured") in str(raised.value)


def test_no_secret_is_written_into_a_pod() -> None:
    settings = Settings(
        database_url="postgresql://u:p@db/theta",  # type: ignore[arg-type]
        mlflow_tracking_uri="http://u:p@mlflow:5000",
        require_gpu=True,
        train_processes=2,
    )
    environment = {
        "AWS_SECRET_ACCESS_KEY": "s", "HF_TOKEN": "s", "AWS_ENDPOINT_URL": "http://minio:9000", "PATH": "/bin",
        "AIRFLOW__API_AUTH__JWT_SECRET": "s", "CUDA_VISIBLE_DEVICES": "1",
    }  # fmt: skip
    passed = pod_environment(settings, environment)
    named = {"THETA_REQUIRE_GPU": "true", "THETA_TRAIN_PROCESSES": "2", "AWS_ENDPOINT_URL": "http://minio:9000"}
    always = {"THETA_HOME", "THETA_CODE", "THETA_EVENTS_FD", "PYTHONUNBUFFERED"}
    assert {name: value for name, value in passed.items() if name not in always} == named
    assert secret_names(settings, environment) == [
        "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_URI", "THETA_DATABASE_URL",
    ]  # fmt: skip
