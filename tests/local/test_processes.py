"""Ports, strays, the mailbox, and the server's remains: with real processes and sockets."""

import asyncio
import os
import smtplib
import socket
import subprocess
import sys
from email.message import EmailMessage
from mailbox import Maildir
from pathlib import Path

import pytest

from theta_ml.bench.stack import free_ports
from theta_ml.local import postgres, strays
from theta_ml.local.layout import MARKER, Layout, StackError
from theta_ml.local.ports import check_ports


def test_a_taken_port_names_its_variable_and_its_holder() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {port} is taken.*pid {os.getpid()}.*THETA_MLFLOW_PORT"):
            check_ports({"THETA_MLFLOW_PORT": port})


def test_a_port_wanted_twice_names_both_variables() -> None:
    (port,) = free_ports(1)
    with pytest.raises(StackError, match="THETA_AIRFLOW_PORT and THETA_MAILBOX_PORT"):
        check_ports({"THETA_AIRFLOW_PORT": port, "THETA_MAILBOX_PORT": port})


def test_free_ports_pass() -> None:
    airflow, mlflow = free_ports(2)
    check_ports({"THETA_AIRFLOW_PORT": airflow, "THETA_MLFLOW_PORT": mlflow})


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def _process(home: Path, code: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, MARKER: str(home)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_strays_of_this_home_are_ended_however_stubborn_and_no_other(tmp_path: Path) -> None:
    mild = _process(tmp_path, "import time; print(flush=True); time.sleep(60)")
    stubborn = _process(tmp_path, STUBBORN)
    foreign = _process(tmp_path / "other", "import time; print(flush=True); time.sleep(60)")
    try:
        assert {process.pid for process in strays.marked(Layout(tmp_path))} == {mild.pid, stubborn.pid}
        assert strays.end_marked(Layout(tmp_path), patience=0.5) == 2
        assert mild.wait(1) == -15
        assert stubborn.wait(1) == -9
        assert foreign.poll() is None
    finally:
        for process in (mild, stubborn, foreign):
            process.kill()
            process.wait()


def test_a_command_run_inside_the_stack_does_not_end_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from pathlib import Path; import sys;"
        "from theta_ml.local import strays; from theta_ml.local.layout import Layout;"
        "print(strays.end_marked(Layout(Path(sys.argv[1]))))"
    )
    monkeypatch.setenv(MARKER, str(tmp_path))
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "0"


def test_a_mail_is_caught(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "theta_ml.local.mailbox", str(tmp_path / "mail"), str(port)])
    try:
        asyncio.run(_listening(port))
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = (
            "theta@localhost",
            "ada@localhost",
            "Rejected: größer ist nicht besser",
        )
        mail.set_content("The candidate was worse on every slice.")
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as session:
            session.send_message(mail)
    finally:
        process.terminate()
        assert process.wait(5) == 0
    (caught,) = list(Maildir(tmp_path / "mail", create=False))
    assert "worse on every slice" in caught.get_payload()


async def _listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def test_a_killed_servers_remains_do_not_hinder_the_next(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "theta")
    layout.create()
    postgres.initialise(layout, "password")
    (layout.postgres / "postmaster.pid").write_text(f"{os.getpid()}\n{layout.postgres}\n")  # a pid used again
    postgres.clear_remains(layout.postgres)
    assert not (layout.postgres / "postmaster.pid").exists()
    postgres.initialise(layout, "another")  # nothing to do: the data stays
    assert (layout.postgres / "PG_VERSION").exists()
    assert not (layout.run / "initdb-password").exists()
