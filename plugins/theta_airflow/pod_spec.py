"""The pod that a stage runs in: the same command and settings as in a child process, secrets by reference."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import SecretStr

from theta_ml.code import code_version
from theta_ml.events import EVENTS_FD, STANDARD_OUTPUT
from theta_ml.settings import Settings, SettingsError

PASSED_ON_PREFIXES = (
    "MLFLOW_", "NCCL_", "TORCH_", "HF_", "GX_", "DO_NOT_TRACK", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip
"""As `child` does, but for what is of the worker's own machine: paths, devices."""
OF_THIS_MACHINE = {"home", "image", "train_on", "train_node"}
"""Settings that are another thing in a pod. Those of pods, `pod_…`, are of none there."""
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL")
HOME = "/var/lib/theta"
GRACE_SECONDS = 60
"""From SIGTERM to SIGKILL, for a checkpoint of a large model."""
LOCAL_SCHEMES = ("", "file", "local", "memory")


def require_bucket(settings: Settings) -> None:
    """Raises SettingsError where a pod could not reach the artifacts."""
    if urlsplit(settings.artifacts).scheme in LOCAL_SCHEMES:
        raise SettingsError(
            f"THETA_TRAIN_ON is kubernetes, and artifacts are in {settings.artifacts}, which is of this machine: set "
            f"THETA_ARTIFACTS_URL to a bucket that pods and workers reach, for example s3://theta/artifacts"
        )


def require_recipe(arguments: list[str], settings: Settings) -> None:
    """Raises SettingsError where the stage's recipe lies in this worker's home: its pod would have none of that name,
    or the built-in one."""
    for name in (each.removeprefix("recipe=") for each in arguments if each.startswith("recipe=")):
        file = settings.home / "recipes" / f"{name}.yaml"
        if settings.recipes is None and file.is_file():
            raise SettingsError(
                f"THETA_TRAIN_ON is kubernetes, and the recipe {name} is {file}, which is of this worker: put it into "
                f"a folder of the image, or of a volume that workers and pods share, and name that by THETA_RECIPES"
            )


def pod_arguments(arguments: list[str], settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    """Of the provider's operator, for `theta stage ARGUMENTS`. Raises SettingsError."""
    from kubernetes.client import models as k8s

    require_bucket(settings)
    require_recipe(arguments, settings)
    if settings.image is None:
        raise SettingsError("THETA_TRAIN_ON is kubernetes: set THETA_IMAGE to Theta's container image for its pods")
    return {
        "name": f"theta-{arguments[0]}",
        "image": settings.image,
        "arguments": ["theta", "stage", *arguments],  # by the image's own entrypoint, which looks after its children
        "namespace": settings.pod_namespace,
        "service_account_name": settings.pod_service_account,
        "labels": {"app.kubernetes.io/name": "theta", "app.kubernetes.io/component": arguments[0]},
        "env_vars": pod_environment(settings, environment),
        "env_from": [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=settings.pod_secret))],
        "container_resources": _resources(settings),
        "volumes": volumes(settings.pod_claim),
        "volume_mounts": [
            k8s.V1VolumeMount(name="home", mount_path=HOME),
            k8s.V1VolumeMount(name="shared-memory", mount_path="/dev/shm"),  # noqa: S108
        ],
        "pod_template_file": str(settings.pod_template) if settings.pod_template else None,
        "termination_grace_period": GRACE_SECONDS,
        "startup_timeout_seconds": round(60 * settings.pod_start_minutes),
        "deferrable": False,  # its lines are events, and are heard as they come
        "durable": True,
        "log_events_on_failure": True,
        "log_pod_spec_on_failure": False,
    }


def _resources(settings: Settings) -> Any:
    """What the template asks for, and the GPUs. Raises SettingsError."""
    from kubernetes.client import models as k8s

    asked = _template(settings.pod_template) if settings.pod_template else {}
    gpus = {settings.pod_gpu_resource: str(settings.pod_gpus)} if settings.pod_gpus else {}
    return k8s.V1ResourceRequirements(limits=asked.get("limits", {}) | gpus, requests=asked.get("requests"))


def _template(file: Path) -> dict[str, Any]:
    """The resources of its first container. Raises SettingsError."""
    try:
        resources: dict[str, Any] = yaml.safe_load(file.read_text())["spec"]["containers"][0].get("resources", {})
        return resources
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"THETA_POD_TEMPLATE: {file} is no pod with a container ({type(error).__name__}: {error}); "
            f"docs/kubernetes/gpu-pod.yaml is one"
        ) from None


def volumes(claim_name: str | None) -> list[Any]:
    """Of a pod: its home, which is the claim's where there is one, and memory that processes share."""
    from kubernetes.client import models as k8s

    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=claim_name) if claim_name else None
    own = None if claim else k8s.V1EmptyDirVolumeSource()
    return [
        k8s.V1Volume(name="home", persistent_volume_claim=claim, empty_dir=own),
        # In which processes that train together exchange gradients; a container's own has 64 MB.
        k8s.V1Volume(name="shared-memory", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory")),
    ]


def node_pod(first: Any, running: Any, number: int) -> Any:
    """Another pod for a training on several nodes: `first` as it was asked for, its checkpoints sent to it by the
    `running` one, which owns it. Airflow's labels are the first one's, and it alone is found by them."""
    from kubernetes.client import models as k8s

    pod = copy.deepcopy(first)
    owner = k8s.V1OwnerReference("v1", True, True, "Pod", running.metadata.name, running.metadata.uid)
    pod.metadata = k8s.V1ObjectMeta(
        name=f"{running.metadata.name}-{number}",
        namespace=running.metadata.namespace,
        labels={"app.kubernetes.io/name": "theta", "app.kubernetes.io/component": f"train-{number}"},
        owner_references=[owner],
    )
    pod.spec.containers[0].env.append(k8s.V1EnvVar(name="THETA_TRAIN_NODE", value=str(number)))
    others = [volume for volume in pod.spec.volumes if volume.name != "home"]
    pod.spec.volumes = [*others, next(volume for volume in volumes(None) if volume.name == "home")]
    return pod


def pod_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables of the pod: settings, wherever they came from, and what libraries are told; no secret among them."""
    passed = {
        name: value
        for name, value in environment.items()
        if name.startswith(PASSED_ON_PREFIXES) and not _is_secret(name, value)
    }
    return {
        **passed,
        **_settings(settings),
        "THETA_HOME": HOME,
        "THETA_CODE": code_version(),
        EVENTS_FD: STANDARD_OUTPUT,
        "PYTHONUNBUFFERED": "1",
    }


def _settings(settings: Settings) -> dict[str, str]:
    """Those that were set, as variables."""
    given = {name: getattr(settings, name) for name in sorted(settings.model_fields_set - OF_THIS_MACHINE)}
    named = {
        variable(name): _text(value)
        for name, value in given.items()
        if value is not None and not isinstance(value, SecretStr) and not name.startswith("pod_")
    }
    return {name: value for name, value in named.items() if not _is_secret(name, value)}


def variable(field: str) -> str:
    """The environment variable of a field of Settings."""
    return field.upper() if field.startswith("mlflow_tracking") else f"THETA_{field.upper()}"


def secret_names(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """What the Secret must hold for a pod to reach what this process reaches."""
    wanted = ("AWS_", *PASSED_ON_PREFIXES)
    named = {n for n, value in environment.items() if n.startswith(wanted) and _is_secret(n, value)}
    uri = settings.mlflow_tracking_uri
    return sorted(
        named
        | ({"THETA_DATABASE_URL"} if settings.database_url else set())
        | ({"MLFLOW_TRACKING_URI"} if uri and _is_secret("", uri) else set())
    )


def _is_secret(name: str, value: str) -> bool:
    """By its name, or because it is a URL with a password."""
    return bool(SECRET.search(name)) or ("://" in value and urlsplit(value).password is not None)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
