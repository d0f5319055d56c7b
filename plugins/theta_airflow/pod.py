"""A stage in a pod: the provider's KubernetesPodOperator starts it, follows its output, and clears it away.

A pod outlives a worker that dies: the task's next attempt finds it by Airflow's task state, or by its labels, and goes
on listening from its first line; what it says twice changes nothing. A pod that ended meanwhile is replaced by another,
which finds its result in the store.

This module loads Kubernetes' client: import it only where a pod is wanted.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import V1Pod
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from theta_airflow.pod_spec import node_pod, pod_arguments, secret_names
from theta_ml.events import event_of
from theta_ml.settings import Settings, SettingsError, load_settings

Hear = Callable[[dict[str, Any]], None]
GONE, EXISTS = 404, 409
AWAY = (HTTPError, KubernetesApiException)
TOO_MANY, BROKEN = 429, 500
REFUSED = (401, 403, 422)
"""Of Kubernetes' API: who asks, or for what, is at fault."""


class Lines(PodManager):
    """Hands each line of a container on, in place of writing it to the task's log."""

    def __init__(self, client: Any, hear: Hear) -> None:
        super().__init__(kube_client=client)
        self._hear = hear

    def _log_message(self, message: str, *args: Any, **kwargs: Any) -> None:
        for line in filter(None, message.splitlines()):
            self._hear(event_of(line))


class PodOperator(KubernetesPodOperator):
    """Inside of a task: what the container says goes to `hear`. Of several `nodes` that train together its pod is the
    first, and owns the others: they go with it."""

    def __init__(self, *, hear: Hear, nodes: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hear = hear
        self.nodes = nodes

    @cached_property
    def pod_manager(self) -> PodManager:
        return Lines(self.client, self.hear)

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Context) -> V1Pod:
        self.pod = pod = super().get_or_create_pod(pod_request_obj, context)
        try:
            for number in range(1, self.nodes):
                self._join(node_pod(pod_request_obj, self.pod_manager.read_pod(pod), number))
        except Exception as error:
            if not _is_away(error):  # else it stays for the next attempt
                self.process_pod_deletion(pod, reraise=False)  # the provider clears away only what it began to follow
            raise
        return pod

    def _join(self, pod: V1Pod) -> None:
        """Starts it, unless an earlier attempt of this task did."""
        try:
            self.client.create_namespaced_pod(pod.metadata.namespace, pod)
        except ApiException as error:
            if error.status != EXISTS:
                raise

    def post_complete_action(self, **kwargs: Any) -> None:
        if _is_away(sys.exc_info()[1]):
            return  # the pod may well be training: it stays for the next attempt
        super().post_complete_action(**kwargs)


class StagePod:
    """Runs `theta stage ARGUMENTS` in a pod."""

    def __init__(self, arguments: list[str], context: Context) -> None:
        self._arguments, self._context = arguments, context
        self._pods: PodOperator | None = None
        self._said_why = False

    def run(self, hear: Hear) -> int:
        """Until the pod ends; `hear` gets what the stage says. Its exit code.

        Raises AirflowFailException where a setting is wrong, or the cluster refuses; AirflowException where it is
        away, or the pod did not start, or was lost.
        """
        settings = load_settings()
        try:
            self._pods = self._operator(settings, hear)
            self._announce(settings, hear)
            self._pods.execute_sync(self._context)  # not `execute`, which is for tasks: this is inside of one
        except (SettingsError, ConfigException) as error:
            raise AirflowFailException(_setting(error)) from None
        except ApiException as error:
            raise _refusal(error) from error
        except AWAY as error:
            raise AirflowException(f"Kubernetes does not answer: {error}") from error
        except AirflowException as error:
            return self._code(error, hear)
        return 0

    def stop(self) -> None:
        """Deletes the pod, which has time for a checkpoint."""
        if self._pods:
            self._pods.on_kill()

    def _operator(self, settings: Settings, hear: Hear) -> PodOperator:
        def note(event: dict[str, Any]) -> None:
            self._said_why |= event["event"] == "error"
            hear(event)

        arguments = pod_arguments(self._arguments, settings, os.environ)
        nodes = settings.train_nodes if self._arguments[0] == "train" else 1
        return PodOperator(task_id=self._context["ti"].task_id, hear=note, nodes=nodes, **arguments)

    def _announce(self, settings: Settings, hear: Hear) -> None:
        needed = ", ".join(secret_names(settings, os.environ)) or "nothing"
        hear(_log(f"a pod of {settings.image}; its Secret {settings.pod_secret} must hold: {needed}"))
        if settings.pod_claim is None and self._arguments[0] == "train":
            hear(_log("checkpoints go with the pod: one that is lost starts over. THETA_POD_CLAIM names a volume"))

    def _code(self, error: AirflowException, hear: Hear) -> int:
        """What the container ended with. Raises AirflowException where it did not get to an end."""
        assert self._pods
        pod = self._pods.remote_pod
        status = pod.status if pod else None
        seen = (status and status.container_statuses) or ()
        ended = next((each.state.terminated for each in seen if each.name == self._pods.base_container_name), None)
        if ended is None:
            before = error.__context__  # of which the provider, clearing the pod away, says no more
            why = before if isinstance(before, AirflowException) else error
            raise AirflowException(f"the pod was lost, or did not start: {_reason(status) or why}") from None
        if ended.reason == "OOMKilled" and not self._said_why:
            hear({"event": "error", "kind": "retry", "message": OUT_OF_MEMORY})
        return int(ended.exit_code)


OUT_OF_MEMORY = (
    "the pod used more memory than it may, and was killed (OOMKilled): give it more (resources.limits.memory in "
    "THETA_POD_TEMPLATE)"
)


def _is_away(error: BaseException | None) -> bool:
    if isinstance(error, ApiException):
        return error.status == TOO_MANY or int(error.status or 0) >= BROKEN
    return isinstance(error, AWAY)


def _log(message: str) -> dict[str, Any]:
    return {"event": "log", "message": message}


def _reason(status: Any) -> str:
    """Of an evicted pod, and the like."""
    return ": ".join(filter(None, (status.reason, status.message))) if status else ""


def _setting(error: Exception) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    return (
        f"no Kubernetes cluster is configured ({error}): run Airflow in one, or set its connection kubernetes_default, "
        f"or KUBECONFIG"
    )


def _refusal(error: ApiException) -> AirflowException:
    """In the words of Kubernetes' API."""
    try:
        message = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        message = str(error.reason)
    if error.status == GONE:
        return AirflowException(f"the pod is gone: deleted, or its node was lost ({message})")
    kind = AirflowFailException if error.status in REFUSED and "quota" not in message else AirflowException
    return kind(f"Kubernetes refused: {message} (HTTP {error.status})")
