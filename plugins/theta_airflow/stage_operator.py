"""The one operator of Theta's DAGs: a task is a stage, a stage is a command."""

import logging
import socket
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from airflow.sdk import BaseOperator, Context, TaskInstanceState
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from theta_airflow.child import StageProcess
from theta_airflow.code import require_one_code
from theta_airflow.mail import deliver
from theta_airflow.month import month_of_run
from theta_airflow.placing import place
from theta_ml.cli.stage import EXIT_CONFIG, EXIT_FAILED, EXIT_SKIPPED
from theta_ml.settings import load_settings

EXIT_USAGE = 2  # click's
FAILED = {TaskInstanceState.FAILED}
PROGRESS_SECONDS = 5
"""At most one progress line in the task's log in this time."""


class Running(Protocol):
    """A stage at work, somewhere."""

    def run(self, hear: Callable[[dict[str, Any]], None]) -> int:
        """Until it ends; `hear` gets its events. Its exit code."""

    def stop(self) -> None:
        """Asks it to end, with time for a checkpoint."""


class StageOperator(BaseOperator):
    """Runs `theta stage STAGE` and hands its artifact on as XCom: `uri` and `key`, and by which `code` on which `host`.

    `takes` names the tasks whose artifacts are inputs: of a task in the same mapped group that of the same map index,
    of another one those of all its instances; one that was skipped or failed is left out. `values` are parameters of
    the stage. With `any_of`, the task ends as that task's instances did unless one of them succeeded (of Airflow's
    trigger rules, those that want one success do not wait for the others, or mind a skipped one). With
    `watch_failures`, the stage is told which tasks of the run failed, but for those that the run `does_without`: what
    they work for beforehand does their work itself. A stage with `gpu` runs where the setting `train_on` says (see
    `theta_airflow.placing`). What it takes must have been made by the code that it runs itself (AirflowException where
    not), but with `any_code`: for a stage that tells of the others, or that a person's answer stands before.
    """

    template_fields: Sequence[str] = ("values",)
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        stage: str,
        takes: Sequence[str] = (),
        values: dict[str, str] | None = None,
        any_of: str | None = None,
        watch_failures: bool = False,
        does_without: Collection[str] = (),
        gpu: bool = False,
        any_code: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(task_id=stage, **(place(gpu) | kwargs))
        self.stage = stage
        self.takes = list(takes)
        self.values = values or {}
        self.any_of = any_of
        self.watch_failures = watch_failures
        self.does_without = set(does_without)
        self.gpu = gpu
        self.any_code = any_code
        self._running: Running | None = None
        self._progressed = 0.0

    def execute(self, context: Context) -> dict[str, str]:
        if self.any_of:
            _require_success(self.any_of, context)
        heard: dict[str, dict[str, Any]] = {}

        def hear(event: dict[str, Any]) -> None:
            heard[event["event"]] = event
            self._show(event)

        self._running = self._begun(context)
        code = self._running.run(hear)
        if code or "result" not in heard:
            raise _outcome(self.stage, code, heard.get("error", {}).get("message", ""))
        made = {name: heard["result"][name] for name in ("uri", "key", "code")}
        return made | {"host": socket.gethostname()}

    def on_kill(self) -> None:
        if self._running:
            self._running.stop()

    def _begun(self, context: Context) -> Running:
        arguments = self._arguments(context)
        if self.gpu and load_settings().train_on == "kubernetes":
            from theta_airflow.pod import StagePod  # loads Kubernetes' client, which nothing else needs

            return StagePod(arguments, context)
        return StageProcess(arguments)

    def _arguments(self, context: Context) -> list[str]:
        run_id = str(context["dag_run"].run_id)
        return [
            *(self.stage, "--month", str(month_of_run(context)), "--run", run_id),
            *(part for uri in self._input_uris(context) for part in ("--input", uri)),
            *(part for name, value in self.told(context).items() for part in ("--set", f"{name}={value}")),
        ]

    def told(self, context: Context) -> dict[str, str]:
        """The stage's parameters in this run."""
        if self.watch_failures:
            return self.values | {"failed": ",".join(self._failed_tasks(context))}
        return self.values

    def _input_uris(self, context: Context) -> list[str]:
        """Raises AirflowException where one was made by other code than is to take it."""
        taken = [(task, artifact) for task in self.takes for artifact in self._artifacts(task, context)]
        if not self.any_code:
            require_one_code(taken)
        return [artifact["uri"] for _, artifact in taken]

    def _artifacts(self, task: str, context: Context) -> list[dict[str, str]]:
        """What `task` handed on, in the order of its map indexes."""
        ti = context["ti"]
        group = self.get_closest_mapped_task_group()
        if group and self.dag.get_task(task).get_closest_mapped_task_group() is group:
            pulled = ti.xcom_pull(task_ids=task, map_indexes=ti.map_index)
        else:
            pulled = ti.xcom_pull(task_ids=task)
        return [artifact for artifact in (pulled if isinstance(pulled, list) else [pulled]) if artifact]

    def _failed_tasks(self, context: Context) -> list[str]:
        """Tasks that failed of themselves, not because of one before them; of a mapped one, as TASK[MAP INDEX]."""
        states = {of: state for of, state in _states(context).items() if of[0] not in self.does_without}
        stopped = _in_states(states, FAILED | {TaskInstanceState.UPSTREAM_FAILED})
        return [
            task if index is None else f"{task}[{index}]"
            for task, index in _in_states(states, FAILED)
            if not any(
                before in self.dag.get_task(task).upstream_task_ids and (index is None or of in (None, index))
                for before, of in stopped
            )
        ]

    def _show(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "mail":
            self.log.info("%s", deliver(event["mail"]["message_id"]))
        elif kind == "progress":
            self._show_progress(event)
        elif kind in ("log", "output"):
            self.log.info("%s", event["message"])
        elif kind == "error":
            level = logging.INFO if event["kind"] == "skipped" else logging.ERROR  # to have nothing to do is no fault
            self.log.log(level, "%s", event["message"])

    def _show_progress(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if event["done"] < event["total"] and now - self._progressed < PROGRESS_SECONDS:
            return
        self._progressed = now
        self.log.info("%g of %g %s  %s", event["done"], event["total"], event["unit"], event["note"])


def _states(context: Context, *tasks: str) -> dict[tuple[str, int | None], str | None]:
    """State of each task of the run, or of these; of a mapped one, that of each of its instances, by map index."""
    run, ti = context["dag_run"], context["ti"]
    states = ti.get_task_states(dag_id=run.dag_id, run_ids=[run.run_id], task_ids=list(tasks) or None)
    known = context["dag"].task_dict
    return {_instance(name, known): state for name, state in states.get(run.run_id, {}).items()}


def _instance(name: str, known: Collection[str]) -> tuple[str, int | None]:
    """Airflow names an instance TASK_INDEX."""
    task, _, index = name.rpartition("_")
    return (name, None) if name in known else (task, int(index))


def _in_states(
    states: dict[tuple[str, int | None], str | None], wanted: Collection[str]
) -> list[tuple[str, int | None]]:
    found = (instance for instance, state in states.items() if state in wanted)
    return sorted(found, key=lambda instance: (instance[0], -1 if instance[1] is None else instance[1]))


def _require_success(task: str, context: Context) -> None:
    states = set(_states(context, task).values())
    if states <= {TaskInstanceState.SKIPPED}:
        raise AirflowSkipException(f"{task} was skipped")
    if TaskInstanceState.SUCCESS not in states:
        raise AirflowFailException(f"{task} failed, for every candidate; the logs of what failed say why")


def _outcome(stage: str, code: int, reason: str) -> AirflowException:
    if code == EXIT_SKIPPED:
        return AirflowSkipException(reason)
    if code in (EXIT_FAILED, EXIT_CONFIG, EXIT_USAGE):
        return AirflowFailException(reason or f"theta stage {stage} was called wrongly; it says how above")
    ending = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return AirflowException(reason or f"theta stage {stage} {ending}; its last lines are above")
