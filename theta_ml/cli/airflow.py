"""Airflow, through its REST API: start a run, follow it."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import click
import httpx

from theta_ml.settings import Settings

DAG = "theta_retrain"
FINISHED = {"success", "failed"}
BY_SHARD = {"extract", "spool"}
"""Tasks whose instances are not one for each recipe."""
WAITING = "awaiting_input"
"""State of a task that waits for a person's answer."""


@dataclass(frozen=True)
class Run:
    """A run of the DAG as it stands: `tasks` maps each task to its state, None before it is scheduled.

    An instance of a mapped task is called TASK[NAME], with the name that Airflow shows (a recipe's), else its number.
    """

    run_id: str
    state: str
    tasks: dict[str, str | None]

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def waiting(self) -> list[str]:
        """Tasks that wait for a person."""
        return [task for task, state in self.tasks.items() if state == WAITING]


class Airflow:
    """A logged-in client; use it in a `with` block. Raises ClickException where Airflow is away or says no."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.airflow
        self._client = httpx.Client(base_url=self.url, timeout=30)
        self._login = {"username": settings.airflow_user, "password": _password(settings)}

    def __enter__(self) -> "Airflow":
        token = self._ask("POST", "/auth/token", json=self._login)["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def start(self, parameters: dict[str, Any], dag: str = DAG) -> str:
        """Starts a run by hand, with no logical date, and returns its run id."""
        body = {"logical_date": None, "conf": parameters}
        return str(self._ask("POST", f"/api/v2/dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def run(self, run_id: str, dag: str = DAG) -> Run:
        run = self._ask("GET", _place(run_id, dag))
        recipes = dict(enumerate(dict.fromkeys((run["conf"] or {}).get("recipes", []))))
        instances = self._instances(run_id, dag, recipes)
        return Run(run_id, run["state"], {name: each["state"] for name, each in instances.items()})

    def run_times(self, run_id: str, dag: str = DAG) -> tuple[str, str]:
        """ISO instants at which the run was asked for and ended."""
        run = self._ask("GET", _place(run_id, dag))
        return run["queued_at"], run["end_date"]

    def task_times(self, run_id: str, dag: str = DAG) -> dict[str, tuple[str, str]]:
        """ISO instants of start and end of each task that ran."""
        return {
            name: (each["start_date"], each["end_date"])
            for name, each in self._instances(run_id, dag).items()
            if each["state"] in ("success", "failed")
        }

    def artifacts(self, run_id: str, dag: str = DAG) -> dict[str, dict[str, str]]:
        """What each stage handed on, `{"uri", "key"}`."""
        found = {}
        for name, each in self._instances(run_id, dag).items():
            place = f"{_place(run_id, dag)}/taskInstances/{each['task_id']}/xcomEntries"
            which = {"map_index": each["map_index"]}
            entries = self._ask("GET", place, params=which)["xcom_entries"]
            if any(entry["key"] == "return_value" for entry in entries):
                value = self._ask("GET", f"{place}/return_value", params=which)["value"]
                found[name] = json.loads(value) if isinstance(value, str) else value
        return {name: value for name, value in found.items() if isinstance(value, dict)}

    def page(self, run_id: str) -> str:
        """Address of the run in Airflow's UI."""
        return f"{self.url}/dags/{DAG}/runs/{quote(run_id, safe='')}"

    def action(self, run_id: str, task: str, dag: str = DAG) -> str:
        """Address of the page where a person answers a task that waits."""
        return f"{self.url}/dags/{dag}/runs/{quote(run_id, safe='')}/tasks/{task}/required_actions"

    def question(self, run_id: str, task: str, dag: str = DAG) -> dict[str, Any]:
        """What a task asks: its `subject`, its `body` in Markdown, its `options`, and who answered what, if anybody."""
        found: dict[str, Any] = self._ask("GET", f"{_place(run_id, dag)}/taskInstances/{task}/-1/hitlDetails")
        return found

    def answer(self, run_id: str, task: str, option: str, dag: str = DAG) -> None:
        """Answers a task that waits, as the user who is logged in."""
        body = {"chosen_options": [option], "params_input": {}}
        self._ask("PATCH", f"{_place(run_id, dag)}/taskInstances/{task}/-1/hitlDetails", json=body)

    def _instances(self, run_id: str, dag: str, named: dict[int, str] | None = None) -> dict[str, dict[str, Any]]:
        """Task instances by name. `named` names map indexes of which no instance has begun."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._ask("GET", f"{_place(run_id, dag)}/taskInstances", params={"offset": len(found), "limit": 100})
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                break
        # One that has not begun has its index for a name; its siblings of the same index have more.
        siblings = (each for each in found if _is_named(each) and each["task_id"] not in BY_SHARD)
        names = (named or {}) | {each["map_index"]: each["rendered_map_index"] for each in siblings}
        return {_name(each, names): each for each in found}

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise AirflowAway(f"Airflow does not answer at {self.url} ({error}): `theta status` tells more") from None
        if response.is_error:
            raise click.ClickException(f"Airflow says no to {method} {path}: {response.status_code} {response.text}")
        return response.json()


def _is_named(instance: dict[str, Any]) -> bool:
    return instance["rendered_map_index"] not in (None, "", str(instance["map_index"]))


def _name(instance: dict[str, Any], names: dict[int, str]) -> str:
    """TASK, or TASK[NAME] with its own name, else that of its siblings, else its number."""
    task, index = instance["task_id"], instance["map_index"]
    if index < 0:
        return str(task)
    if _is_named(instance):
        return f"{task}[{instance['rendered_map_index']}]"
    return f"{task}[{index if task in BY_SHARD else names.get(index, index)}]"


def _place(run_id: str, dag: str) -> str:
    return f"/api/v2/dags/{dag}/dagRuns/{quote(run_id, safe='')}"


class AirflowAway(click.ClickException):
    """Nobody listens; it may come back."""


def _password(settings: Settings) -> str:
    if settings.airflow_password is None:
        raise click.ClickException("no login for Airflow: run `theta up` here, or set THETA_AIRFLOW_PASSWORD")
    return settings.airflow_password.get_secret_value()
