"""The manifests, by Kubernetes' own schemas; the chart's values, by what Theta makes of them."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from theta_airflow.pod_spec import pod_arguments

from theta_ml.local.environment import endurance
from theta_ml.local.workers import celery_sections, merged
from theta_ml.settings import Settings

FOLDER = Path(__file__).parents[2] / "docs" / "kubernetes"
VERSIONS = ("1.30", "1.33", "1.37")
OTHERS = {"MLFLOW_TRACKING_URI", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["theta.yaml", "gpu-pod.yaml", "train-nodes.yaml"])
def test_manifests_are_valid(name: str, version: str) -> None:
    for document in documents(name):
        kubernetes_validate.validate(complete(document), version, strict=True)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """A template has no image yet."""
    if document["kind"] == "Pod":
        document["spec"]["containers"][0]["image"] = "theta"
    return document


def test_a_misspelt_field_is_found() -> None:
    (pod,) = documents("gpu-pod.yaml")
    pod["spec"]["tolerations"][0]["efect"] = "NoSchedule"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


def test_nodes_of_the_job_meet_where_its_first_pod_is() -> None:
    service, job = documents("train-nodes.yaml")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    host, subdomain = values["THETA_RENDEZVOUS"].partition(":")[0].split(".")
    assert host == f"{job['metadata']['name']}-0"  # as an indexed Job names its pods' hosts
    assert subdomain == service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]
    assert int(values["THETA_TRAIN_NODES"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    known = {f"THETA_{field.upper()}" for field in Settings.model_fields}
    assert {name for name in values if name not in known} == set()


def test_the_chart_is_given_settings_that_there_are_and_what_the_pods_need() -> None:
    (values,) = documents("airflow-values.yaml")
    known = {f"THETA_{field.upper()}" for field in Settings.model_fields} | OTHERS
    given = {each["name"]: str(each["value"]) for each in values["env"]}
    assert given.keys() <= known
    fields = {name.removeprefix("THETA_").lower(): value for name, value in given.items()}
    fields |= {"home": "/tmp", "pod_template": str(FOLDER / "gpu-pod.yaml")}
    settings = Settings(**fields)  # type: ignore[arg-type]
    assert settings.train_on == "kubernetes"
    pod = pod_arguments(["train"], settings, {})
    resources = pod["container_resources"]
    assert resources.limits == {"memory": "32Gi", "nvidia.com/gpu": "1"} and resources.requests["cpu"] == "4"
    there = {document["metadata"]["name"] for document in documents("theta.yaml")}
    assert {settings.pod_claim, settings.pod_service_account, "theta-train-0"} == there
    (service,) = (document for document in documents("theta.yaml") if document["kind"] == "Service")
    assert service["spec"]["selector"].items() <= pod["labels"].items()
    made = (FOLDER / "README.md").read_text()
    assert f"secret generic {settings.pod_secret} " in made and "secret generic airflow " in made


def test_the_chart_configures_airflow_as_the_local_stack_does() -> None:
    (values,) = documents("airflow-values.yaml")
    wanted = merged(celery_sections("redis://", "postgresql://"), endurance())
    assert wanted.pop("core") == {"executor": values["executor"]}
    del wanted["celery"]["broker_url"], wanted["celery"]["result_backend"]  # the chart's own
    given = {name: {each: values["config"][name].get(each) for each in of} for name, of in wanted.items()}
    assert given == {name: {each: str(value) for each, value in of.items()} for name, of in wanted.items()}
    assert values["config"]["core"]["dags_are_paused_at_creation"] == "False"
    assert not any("{{" in value for of in values["config"].values() for value in of.values())  # the chart's templates


def test_airflow_finds_its_connections_and_may_write_its_passwords_file() -> None:
    (values,) = documents("airflow-values.yaml")
    made = (FOLDER / "README.md").read_text()
    connections = {each["envName"]: each for each in values["secret"]}
    assert connections.keys() == {"AIRFLOW_CONN_SMTP_DEFAULT", "AIRFLOW_CONN_THETA_DB"}
    for name, reference in connections.items():
        assert reference["secretName"] == "airflow" and f"--from-literal={reference['secretKey']}=" in made, name
    server = values["apiServer"]
    spec = {
        "initContainers": server["extraInitContainers"],
        "containers": [{"name": "api-server", "image": "theta", "volumeMounts": server["extraVolumeMounts"]}],
        "volumes": server["extraVolumes"],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api-server"}, "spec": spec}
    kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)
    (mount,) = server["extraVolumeMounts"]
    assert not mount.get("readOnly")
    (volume,) = (each for each in server["extraVolumes"] if each["name"] == mount["name"])
    assert "emptyDir" in volume
    file = values["config"]["core"]["simple_auth_manager_passwords_file"]
    assert file == f"{mount['mountPath']}/passwords.json"
