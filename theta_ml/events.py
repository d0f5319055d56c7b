"""What a stage says while it works: one JSON object a line, on a stream of its own.

Airflow's operator passes a pipe and turns the events into task log lines and mails. Of a container it hears the
standard output alone, and events are lines there. By hand there is neither, and the same events drive a progress bar.
"""

import json
import os
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

from theta_ml.code import code_version

EVENTS_FD = "THETA_EVENTS_FD"
STANDARD_OUTPUT = "1"
"""As `THETA_EVENTS_FD`: nobody holds a pipe; whoever reads the output finds the events among its lines."""
MAIL_FIELDS = ("message_id", "subject")
"""Of a mail, on an output that others keep: its text and pictures stay in the outbox."""
KINDS = ("log", "progress", "mail", "result", "error")


def event_of(line: str) -> dict[str, Any]:
    """A line of such an output as the event that it is; plain output comes as `{"event": "output", "message": …}`."""
    if line.startswith("{"):
        with suppress(json.JSONDecodeError):
            event: dict[str, Any] = json.loads(line)
            if event.get("event") in KINDS:
                return event
    return {"event": "output", "message": line}


class Events:
    """Writes events to the file descriptor named by `THETA_EVENTS_FD`, or draws them on stderr."""

    _is_output = False

    def __init__(self, title: str) -> None:
        fd = os.environ.get(EVENTS_FD)
        self._is_output = fd == STANDARD_OUTPUT
        self._stream: IO[str] | None = os.fdopen(int(fd), "w", buffering=1, closefd=False) if fd else None
        self._console = None if self._stream else _Console(title)
        self._lock = threading.Lock()  # a training's sampler and its mails speak from threads of their own

    def log(self, message: str) -> None:
        """A line a person should read."""
        self._emit("log", message=message)

    def progress(self, done: float, total: float, unit: str, note: str = "") -> None:
        """How far the stage is, for example 120 of 400 steps; `note` says what else matters, such as the loss."""
        self._emit("progress", done=done, total=total, unit=unit, note=note)

    def mail(self, message: dict[str, Any]) -> None:
        """A message of the outbox (see `mail.message.Message`), to be carried by whoever listens; where it cannot
        leave now it waits there."""
        self._emit("mail", mail={name: message[name] for name in MAIL_FIELDS} if self._is_output else message)

    def result(self, uri: str, key: str, cached: bool) -> None:
        """With the code that made it, or found it made."""
        self._emit("result", uri=uri, key=key, cached=cached, code=code_version())

    def error(self, kind: str, message: str) -> None:
        self._emit("error", kind=kind, message=message)

    def pass_on(self, event: dict[str, Any]) -> None:
        """An event that another process of this stage wrote, as its line has it."""
        self._emit(**event)

    def _emit(self, event: str, **fields: Any) -> None:
        with self._lock:
            if self._stream:
                self._stream.write(json.dumps({"event": event, **fields}) + "\n")
            elif self._console:
                self._console.show(event, fields)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console:
            self._console.close()


class _Console:
    """Draws events for a person: a bar on a terminal, lines elsewhere."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]} {task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not sys.stderr.isatty(),
        )
        self._task: Any = None
        self._bar.start()

    def show(self, event: str, fields: dict[str, Any]) -> None:
        if event == "progress":
            if self._task is None:
                self._task = self._bar.add_task("", total=fields["total"], unit=fields["unit"], note="")
            self._bar.update(self._task, completed=fields["done"], total=fields["total"], note=fields["note"])
        elif event == "log":
            self._bar.console.print(fields["message"], highlight=False, markup=False)
        elif event == "mail":
            self._bar.console.print(f"mail: {fields['mail']['subject']}", highlight=False, markup=False)

    def close(self) -> None:
        self._bar.stop()
