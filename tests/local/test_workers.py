"""Celery mode without Airflow: its configuration, its broker, and when a worker is restarted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.providers.celery.get_provider_info import get_provider_info

from tests.local.test_environment import SECRETS, WRITTEN
from theta_ml.bench.scale_overhead import end_redis, redis_url, start_redis
from theta_ml.bench.stack import free_ports
from theta_ml.local.environment import airflow_environment
from theta_ml.local.health import Probes
from theta_ml.local.layout import Layout, StackError
from theta_ml.local.outage import Watch
from theta_ml.local.plan import Plan
from theta_ml.local.programs import programs
from theta_ml.local.supervisor import ProgramState, Supervisor, configuration
from theta_ml.local.watchdog import QUEUED, UNWELL, UNWELL_WORKER, Patience, Watchdog
from theta_ml.local.workers import QUEUES, Broker, celery_sections, node_of

BROKER = "redis://:brokerpassword@127.0.0.1:6399/2"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """One that wants a password; its URL without one."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port = free_ports(1)[0]
    server = start_redis(port, tmp_path, "--requirepass", "brokerpassword")
    yield redis_url(port)
    end_redis(server)


def plan(home: Path) -> Plan:
    return Plan(Layout(home), 18080, 15000, 11025, celery=True)


def test_every_option_is_one_that_somebody_reads() -> None:
    """A misspelt option is silently ignored."""
    import airflow.config_templates as templates
    from airflow.jobs import scheduler_job_runner
    from kombu.transport.redis import Channel

    described = (Path(templates.__path__[0]) / "config.yml").read_text()
    provided = get_provider_info()["config"]
    undescribed = Path(str(scheduler_job_runner.__file__)).read_text()
    for section, options in celery_sections(BROKER, "postgresql+psycopg2://u@h/airflow").items():
        body = re.split(rf"^{section}:$", described, flags=re.MULTILINE)[-1]
        for option in options:
            assert (
                option in provided.get(section, {}).get("options", {})
                or re.search(rf"^    {option}:$", body, re.MULTILINE)
                or (section == "celery_broker_transport_options" and option in Channel.from_transport_options)
                or f'key="{option}"' in undescribed
            ), option


def test_what_redis_lost_is_sent_again_in_minutes_and_an_unheard_queue_fails_within_hours() -> None:
    """Tokens end when a task is sent again: it must be so before the ten seconds are over in which one still counts."""
    scheduler = {name: int(str(value)) for name, value in celery_sections(BROKER, "x")["scheduler"].items()}
    assert 120 <= scheduler["task_queued_timeout"] <= 600
    assert scheduler["task_queued_timeout_check_interval"] < 10
    assert 3 <= scheduler["task_queued_timeout"] * scheduler["num_stuck_in_queued_retries"] / 3600 <= 12


def test_celery_s_own_options_are_known_to_celery() -> None:
    from celery.app.defaults import NAMESPACES, flatten

    known = dict(flatten(NAMESPACES))
    for option in json.loads(str(celery_sections(BROKER, "x")["celery"]["extra_celery_config"])):
        assert option in known


def test_the_rest_of_airflow_s_configuration_is_as_without_a_broker() -> None:
    local, celery = (
        airflow_environment(plan(Path("/srv/t")), SECRETS, "ada", Path("/r"), each) for each in (None, BROKER)
    )
    assert local["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert celery["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert {name for name in local if celery[name] != local[name]} == {"AIRFLOW__CORE__EXECUTOR"}
    assert celery["AIRFLOW__CELERY__RESULT_BACKEND"] == f"db+{local['AIRFLOW__DATABASE__SQL_ALCHEMY_CONN']}"


def test_each_queue_has_a_worker_of_its_own_and_no_command_holds_the_password(tmp_path: Path) -> None:
    stack = plan(tmp_path)
    made = {each.name: each for each in programs(stack, SECRETS, WRITTEN | {"celery_broker": BROKER})}
    assert stack.services == tuple(made)
    for name, queue in QUEUES.items():
        words = made[name].command
        assert words[words.index("--queues") + 1] == queue
        assert words[words.index("--celery-hostname") + 1] == node_of(stack.layout, name)
        assert made[name].stop_signal == "QUIT"
    text = configuration(stack.layout, list(made.values())) + repr(made)
    assert "brokerpassword" not in text + " ".join(word for each in made.values() for word in each.command)


def test_a_broker_that_is_away_is_told_of_without_its_password() -> None:
    with pytest.raises(StackError, match=re.escape("127.0.0.1:1/2 does not answer")) as told:
        Broker("redis://:brokerpassword@127.0.0.1:1/2").check()
    assert "THETA_CELERY_BROKER" in str(told.value)
    assert "brokerpassword" not in str(told.value)


def test_a_broker_that_wants_a_password_says_so(redis: str) -> None:
    assert "refuses the login" in str(Broker(redis).fault())
    right = redis.replace("//", "//:brokerpassword@")
    assert Broker(right).fault() is None
    assert Broker(redis.replace("//", "//:wrong@")).fault()


def test_a_worker_that_is_away_does_not_answer(redis: str) -> None:
    broker = Broker(redis.replace("//", "//:brokerpassword@"))
    assert broker.worker_fault("worker-default@nowhere") == "it does not answer through the broker"
    assert not broker.leaves_waiting("worker-default@nowhere", "default")


def test_a_worker_is_given_time_to_come_back_to_its_broker() -> None:
    patience = Patience()
    worker = ProgramState("worker-gpu", "RUNNING", 7, 0)
    patience.exhausted(worker, None, 100.0)
    patience.exhausted(worker, "it does not answer through the broker", 200.0)
    assert not patience.exhausted(worker, "it does not answer through the broker", 200.0 + 2 * UNWELL)
    assert patience.exhausted(worker, "it does not answer through the broker", 200.0 + UNWELL_WORKER)


class Answers(Probes):
    """Probes of a queue that waits while slots are free; `broker` says which workers take nothing from theirs."""

    idle: tuple[str, ...]
    away: str | None

    def oldest_queued(self) -> tuple[float, int]:
        return QUEUED + 1, 0

    @property
    def broker(self) -> Broker:
        idle, away = self.idle, self.away

        class Answering(Broker):
            def leaves_waiting(self, node: str, queue: str) -> bool:
                return queue in idle

            def fault(self) -> str | None:
                return away

        return Answering(BROKER)


def watchdog(tmp_path: Path, idle: tuple[str, ...] = (), away: str | None = None) -> Watchdog:
    stack = plan(tmp_path)
    probes = Answers(stack, SECRETS)
    object.__setattr__(probes, "idle", idle)
    object.__setattr__(probes, "away", away)
    return Watchdog(stack, probes, Supervisor(stack.layout), Watch(stack.layout))


@pytest.mark.parametrize(("idle", "killed"), [(("default",), True), ((), False)])
def test_a_worker_that_takes_nothing_is_restarted_and_the_scheduler_is_not(
    tmp_path: Path, idle: tuple[str, ...], killed: bool
) -> None:
    code = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    processes = {name: subprocess.Popen(code, env=dict(os.environ)) for name in ("scheduler", *QUEUES)}
    try:
        states = {name: ProgramState(name, "RUNNING", each.pid, 0) for name, each in processes.items()}
        looking = watchdog(tmp_path, idle)
        for state in states.values():
            looking.patience.exhausted(state, None, 100.0)
        looking._look_at_queue(states)
        if killed:
            assert processes["worker-default"].wait(5) == -signal.SIGKILL
        assert [name for name, each in processes.items() if each.poll() is None] == [
            name for name in processes if not (killed and name == "worker-default")
        ]
    finally:
        for each in processes.values():
            each.kill()
            each.wait()


def test_a_worker_has_its_patience_anew_when_its_broker_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was unwell before the broker was seen to be away."""
    restarted = list[str]()
    monkeypatch.setattr(Watchdog, "_restart", lambda self, state, fault: restarted.append(state.name))
    monkeypatch.setattr(Answers, "check", lambda self, service, started: "it does not answer through the broker")
    looking, worker = watchdog(tmp_path), ProgramState("worker-gpu", "RUNNING", 7, 0)

    def look(now: float, away: str | None) -> None:
        monkeypatch.setattr("theta_ml.local.watchdog.time.time", lambda: now)
        object.__setattr__(looking.probes, "away", away)
        looking._look_at(worker)

    look(1000, None)
    look(1005, "the broker does not answer")
    look(2000, "the broker does not answer")
    look(2005, None)
    assert not restarted
    look(2005 + UNWELL_WORKER, None)
    assert restarted == ["worker-gpu"]


def test_nobody_is_restarted_for_a_broker_that_is_away(tmp_path: Path) -> None:
    away, there = watchdog(tmp_path, away="the broker does not answer"), watchdog(tmp_path)
    for name in ("scheduler", *QUEUES):
        assert away._without_broker(name)
        assert not there._without_broker(name)
    assert not away._without_broker("api-server")
