"""`theta up`: from nothing to a healthy stack."""

import importlib.metadata
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import filelock

from theta_ml.local import postgres, strays
from theta_ml.local.airflow_api import configure_airflow
from theta_ml.local.health import Probes
from theta_ml.local.layout import Layout, StackError, read_json, write_json
from theta_ml.local.plan import Asked, Plan, asked, keep_plan, kept_plan, plan_for, written_settings
from theta_ml.local.ports import check_ports
from theta_ml.local.programs import Program, airflow_command, keep_program, programs
from theta_ml.local.secret import Secrets, load_secrets
from theta_ml.local.supervisor import RUNNING, ProgramState, Supervisor, start_supervisor
from theta_ml.local.workers import Broker

DEADLINE = 240.0
"""Seconds until `up` gives up on a service; a slow machine's first start takes half of it."""

LIVES = 6
"""Processes that a service may use up until `up` gives up on it: more, and it does not even start."""

Report = Callable[[str, str], None]
"""Told of each step: the service, and what became of it."""


@dataclass(frozen=True)
class Up:
    """What `up` found or did."""

    plan: Plan
    written: dict[str, Any]
    repaired: tuple[str, ...]
    """Services that were started; empty where all were running."""


def up(report: Report) -> Up:
    """Start what is not running and wait until all is healthy.

    Raises StackError (a port is taken, a service does not come up), SettingsError.
    """
    settings = asked()
    plan = plan_for(settings)
    plan.layout.create()
    with alone(plan.layout):
        supervisor = Supervisor(plan.layout)
        if supervisor.alive():
            return _repair(supervisor, plan.layout, report)
        if ended := strays.end_marked(plan.layout) + strays.end_postgres(plan.layout):
            report("stack", f"ended {ended} processes that an earlier stack left")
        check_ports(plan.ports)
        if settings.celery_broker:
            Broker(settings.celery_broker.get_secret_value()).check()
        return _start(plan, settings, report)


@contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """Hold the stack's lock. Raises StackError where another `up` or `down` holds it."""
    try:
        with filelock.FileLock(layout.lock, timeout=0):
            yield
    except filelock.Timeout:
        raise StackError(f"another `theta up` or `theta down` is at work on {layout.home}: wait for its end") from None


def _start(plan: Plan, settings: Asked, report: Report) -> Up:
    secrets = load_secrets(plan.layout)
    written = written_settings(plan, settings, secrets)
    write_json(plan.layout.settings, {**read_json(plan.layout.settings), **written})
    write_json(plan.layout.passwords, {written["airflow_user"]: written["airflow_password"]})
    keep_plan(plan)
    wanted = programs(plan, secrets, written)
    for program in wanted:
        keep_program(plan.layout, program)
    postgres.initialise(plan.layout, secrets.postgres_password)
    supervisor = start_supervisor(plan.layout, wanted, wanted[0].environment)
    return _Start(plan, secrets, written, supervisor, report).run(wanted)


def _repair(supervisor: Supervisor, layout: Layout, report: Report) -> Up:
    """A second `up`: start what was stopped or given up on; nothing else changes."""
    plan = kept_plan(layout)
    if plan is None:
        raise StackError(f"{layout.run / 'plan.json'} is missing: run `theta down`, then `theta up`")
    states = supervisor.states()
    missing = tuple(name for name in plan.services if states[name].state not in RUNNING)
    written = read_json(layout.settings)
    if plan.celery:
        Broker(written["celery_broker"]).check()
    start = _Start(plan, load_secrets(layout), written, supervisor, report)
    if missing:
        start.bring_up()
    else:
        start.wait(*plan.services)
    return Up(plan, written, missing)


@dataclass(frozen=True)
class _Start:
    """One start of the services, slow steps side by side."""

    plan: Plan
    secrets: Secrets
    written: dict[str, Any]
    supervisor: Supervisor
    report: Report

    def run(self, wanted: list[Program]) -> Up:
        self.bring_up()
        return Up(self.plan, self.written, tuple(program.name for program in wanted))

    def bring_up(self) -> None:
        for name in ("postgres", "mailbox"):
            self.start(name)
        self.wait("postgres")
        postgres.create_databases(self.plan.database("postgres", self.secrets))
        self.start("mlflow")
        with ThreadPoolExecutor() as pool:
            steps = [pool.submit(self._migrate_theta), pool.submit(self._start_airflow)]
            for step in steps:
                step.result()
        self.wait(*(name for name in self.plan.services if name not in ("postgres", "watchdog")))
        configure_airflow(self.plan.airflow_url, self.written)
        self._reconcile()
        self._await_dags()
        self.plan.layout.outage.unlink(missing_ok=True)  # an earlier one is over
        self.start("watchdog")

    def start(self, name: str) -> None:
        if name in self.plan.services:
            self.supervisor.start(name)

    def _start_airflow(self) -> None:
        migrate_airflow(self.plan, self.secrets, self.report)
        for name in self.plan.airflow_services:
            self.start(name)

    def _migrate_theta(self) -> None:
        import psycopg

        from theta_ml.landing.migrations import MigrationError, migrate

        try:
            applied = migrate(self.written["database_url"])
        except (MigrationError, psycopg.Error) as error:
            raise StackError(f"theta's own database: {error}") from error
        self.report("theta database", f"{len(applied)} migrations applied" if applied else "up to date")

    def _reconcile(self) -> None:
        """MLflow's aliases as the ledger has them; a registry that cannot be set right is no reason not to start."""
        from theta_ml.registry.check import reconcile
        from theta_ml.settings import SettingsError, load_settings
        from theta_ml.stage import StageFailed, StageRetry

        try:
            for fault in reconcile(load_settings()):
                self.report("registry", f"{fault.what}: {'set again' if fault.repaired else 'NOT set'}")
        except (SettingsError, StageFailed, StageRetry) as error:
            self.report("registry", f"warning: {error}; `theta registry check` tells more")

    def wait(self, *names: str) -> None:
        """Until these are healthy. Raises StackError that quotes the log of one that is not, or keeps ending."""
        begun = time.monotonic()
        left = [name for name in names if name in self.plan.services]
        lives: dict[str, set[int]] = {name: set() for name in left}
        while True:
            faults = self._faults(left, lives)
            for name in set(left) - set(faults):
                self.report(name, "healthy")
            left = [name for name in left if name in faults]
            if not left:
                return
            for name, fault in faults.items():
                if len(lives[name]) > LIVES:
                    raise StackError(_failure(self.plan.layout, name, f"keeps ending ({fault})"))
            if time.monotonic() - begun > DEADLINE:
                raise StackError(
                    _failure(self.plan.layout, left[0], f"not healthy in {DEADLINE:.0f} s: {faults[left[0]]}")
                )
            time.sleep(0.5)

    def _faults(self, names: list[str], lives: dict[str, set[int]]) -> dict[str, str]:
        """What is wrong with each that is not healthy; notes the pids that each has had."""
        probes = Probes(self.plan, self.secrets)
        states = self.supervisor.states()
        for name in names:
            lives[name].add(states[name].pid)
        with ThreadPoolExecutor() as pool:
            asked = {name: pool.submit(_fault, probes, states[name]) for name in names}
            answers = {name: answer.result() for name, answer in asked.items()}
        return {name: fault for name, fault in answers.items() if fault is not None}

    def _await_dags(self) -> None:
        """Until the DAG folder has been read: who comes next wants to trigger one."""
        probes = Probes(self.plan, self.secrets)
        deadline = time.monotonic() + 60
        while not probes.dags_parsed():
            if time.monotonic() > deadline:
                raise StackError(_failure(self.plan.layout, "dag-processor", "the DAG folder has not been read"))
            time.sleep(0.5)


def _fault(probes: Probes, state: ProgramState) -> str | None:
    alive = state.state in ("RUNNING", "STARTING")
    return probes.check(state.name, state.started) if alive else f"its process is {state.state}"


def _failure(layout: Layout, service: str, fault: str) -> str:
    log = layout.log(service)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if log.exists() else []
    return "\n".join([f"{service}: {fault}", f"{log} ends with:", *lines])


def migrate_airflow(plan: Plan, secrets: Secrets, report: Report) -> None:
    """`airflow db migrate`, unless this version has been there. Raises StackError with the log's place."""
    layout = plan.layout
    done = layout.airflow / "migrated.json"
    version = importlib.metadata.version("apache-airflow")
    if read_json(done) == {"airflow": version, "revision": _revision(plan, secrets)}:
        return
    report("airflow database", "migrating")
    environment = read_json(layout.run / "programs" / "scheduler.json")["environment"]
    log = layout.log("airflow-migrate")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        command = airflow_command("db", "migrate")
        result = subprocess.run(command, env=environment, stdout=output, stderr=output, cwd=layout.airflow, check=False)
    if result.returncode != 0:
        raise StackError(f"`airflow db migrate` failed: see {log}")
    write_json(done, {"airflow": version, "revision": _revision(plan, secrets)})


def _revision(plan: Plan, secrets: Secrets) -> str | None:
    """Revision of Airflow's database, None where it is empty."""
    import psycopg

    with psycopg.connect(plan.database("airflow", secrets)) as connection:
        try:
            row = connection.execute("SELECT string_agg(version_num, ',') FROM alembic_version").fetchone()
        except psycopg.errors.UndefinedTable:
            return None
    return row[0] if row else None
