"""What runs, how it is, and where it is found."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

import psutil

from theta_ml.local import strays
from theta_ml.local.health import Probes
from theta_ml.local.layout import Layout, read_json
from theta_ml.local.plan import Plan, kept_plan
from theta_ml.local.secret import load_secrets
from theta_ml.local.supervisor import ProgramState, Supervisor


class Service(TypedDict):
    """One service; `fault` says what is wrong, None where it is healthy."""

    name: str
    state: str
    pid: int | None
    healthy: bool
    fault: str | None
    uptime_s: float | None
    rss_bytes: int
    url: str | None


class Status(TypedDict):
    """The answer of `theta status --json`."""

    home: str
    running: bool
    healthy: bool
    services: list[Service]
    rss_bytes: int
    """Resident memory of all processes, shared pages counted in each."""
    pss_bytes: int
    """Resident memory of all processes, shared pages counted once."""
    urls: dict[str, str]
    login: dict[str, str]
    left_over: int
    """Processes that outlived their supervisor; `theta down` ends them."""


def status(layout: Layout) -> Status:
    """The stack's state now."""
    plan = kept_plan(layout)
    supervisor = Supervisor(layout)
    running = plan is not None and supervisor.alive()
    services = _services(plan, supervisor.states()) if plan is not None and running else []
    processes = strays.everything(layout) if layout.run.is_dir() else []
    rss, pss = memory(processes)
    return {
        "home": str(layout.home),
        "running": running,
        "healthy": bool(services) and all(service["healthy"] for service in services),
        "services": services,
        "rss_bytes": rss,
        "pss_bytes": pss,
        "urls": _urls(layout) if running else {},
        "login": _login(layout) if running else {},
        "left_over": 0 if running else len(processes),
    }


def _services(plan: Plan, states: dict[str, ProgramState]) -> list[Service]:
    probes = Probes(plan, load_secrets(plan.layout))
    urls = {"api-server": plan.airflow_url, "mlflow": plan.mlflow_url}
    with ThreadPoolExecutor(len(plan.services)) as pool:
        made = [pool.submit(_service, probes, states[name], urls.get(name)) for name in plan.services]
        return [service.result() for service in made]


def _service(probes: Probes, state: ProgramState, url: str | None) -> Service:
    alive = state.state in ("RUNNING", "STARTING")
    fault = probes.check(state.name, state.started) if alive else f"its process is {state.state}"
    return {
        "name": state.name,
        "state": state.state.lower(),
        "pid": state.pid or None,
        "healthy": fault is None,
        "fault": fault,
        "uptime_s": round(time.time() - state.started, 1) if alive else None,
        "rss_bytes": memory(_tree(state.pid), shared=False)[0] if state.pid else 0,
        "url": url,
    }


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory(processes: Iterable[psutil.Process], shared: bool = True) -> tuple[int, int]:
    """Resident and proportional (where `shared`) bytes of these processes; one that is gone counts nothing."""
    resident = proportional = 0
    for process in processes:
        try:
            resident += process.memory_info().rss
            proportional += getattr(process.memory_full_info(), "pss", 0) if shared else 0
        except psutil.Error:
            continue  # gone meanwhile
    return resident, proportional


def _urls(layout: Layout) -> dict[str, str]:
    written = read_json(layout.settings)
    return {"airflow": written["airflow_url"], "mlflow": written["mlflow_tracking_uri"], "mail": _mail_url(written)}


def _mail_url(written: dict[str, Any]) -> str:
    return f"smtp://{written['smtp_host']}:{written['smtp_port']}"


def _login(layout: Layout) -> dict[str, str]:
    return {"user": read_json(layout.settings)["airflow_user"], "password_file": str(layout.passwords)}
