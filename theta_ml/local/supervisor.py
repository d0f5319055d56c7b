"""supervisord: its configuration, its start, and its control through a unix socket."""

import shlex
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta_ml.local import launch
from theta_ml.local.layout import MARKER, Layout, StackError, write_private
from theta_ml.local.programs import Program

_NOT_THERE = (ConnectionError, FileNotFoundError, xmlrpc.client.ProtocolError)

RUNNING = ("RUNNING", "STARTING", "BACKOFF")
"""States of a program that the supervisor itself keeps going."""


@dataclass(frozen=True)
class ProgramState:
    """What the supervisor says of a program."""

    name: str
    state: str
    pid: int
    """0 where there is no process."""
    started: int
    """Seconds since the epoch."""


def configuration(layout: Layout, programs: list[Program]) -> str:
    """Text of supervisord.conf."""
    head = f"""\
[unix_http_server]
file={_escaped(layout.sockets / "supervisor.sock")}
chmod=0600

[supervisord]
logfile={_escaped(layout.log("supervisor"))}
logfile_maxbytes=5MB
logfile_backups=2
pidfile={_escaped(layout.run / "supervisord.pid")}
childlogdir={_escaped(layout.logs)}
directory={_escaped(layout.home)}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return "\n".join([head, *(_section(layout, program) for program in programs)])


def _section(layout: Layout, program: Program) -> str:
    file = layout.run / "programs" / f"{program.name}.json"
    command = shlex.join([sys.executable, "-P", launch.__file__, str(file)])
    # `up` starts each in its turn; from then on it is restarted for ever, each time a second later than before.
    return f"""\
[program:{program.name}]
command={_escaped(command)}
autostart=false
autorestart=true
startsecs=5
startretries=1000000
stopsignal={program.stop_signal}
stopwaitsecs={program.stop_seconds}
killasgroup=true
stdout_logfile=NONE
stderr_logfile=NONE
"""


def _escaped(value: Path | str) -> str:
    return str(value).replace("%", "%%")


class Supervisor:
    """A running supervisord."""

    def __init__(self, layout: Layout) -> None:
        self._socket = layout.sockets / "supervisor.sock"

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        # A transport of its own for each call: one connection is not to be shared between threads.
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            named = " ".join([method, *map(str, arguments)])
            raise StackError(f"the supervisor refused {named}: {fault.faultString}") from None
        finally:
            transport.close()

    def alive(self) -> bool:
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except _NOT_THERE:
            return False

    def states(self) -> dict[str, ProgramState]:
        found = self._call("getAllProcessInfo")
        return {p["name"]: ProgramState(p["name"], p["statename"], p["pid"], p["start"]) for p in found}

    def start(self, name: str) -> None:
        """Start a program unless it is started; does not wait for it."""
        if self.states()[name].state not in RUNNING:
            self._call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Stop a program and wait for its end, which SIGKILL brings about if need be."""
        if self.states()[name].state in RUNNING:
            self._call("stopProcess", name, True)

    def pid(self) -> int:
        return int(self._call("getPID"))

    def shutdown(self) -> None:
        self._call("shutdown")


def start_supervisor(layout: Layout, programs: list[Program], environment: dict[str, str]) -> Supervisor:
    """Start supervisord, detached from this process. Raises StackError with its words where it does not come up."""
    file = layout.run / "supervisord.conf"
    write_private(file, configuration(layout, programs))
    assert MARKER in environment
    command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(file)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=layout.home)
    if result.returncode != 0:
        raise StackError(f"supervisord did not start:\n{result.stderr.strip() or result.stdout.strip()}")
    supervisor = Supervisor(layout)
    deadline = time.monotonic() + 15
    while not supervisor.alive():
        if time.monotonic() > deadline:
            raise StackError(f"supervisord did not answer within 15 s: see {layout.log('supervisor')}")
        time.sleep(0.1)
    return supervisor
