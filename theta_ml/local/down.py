"""`theta down`: no process and no port is left, also after a crash of the supervisor."""

from concurrent.futures import ThreadPoolExecutor

from theta_ml.local import strays
from theta_ml.local.layout import Layout
from theta_ml.local.supervisor import Supervisor
from theta_ml.local.up import Report, alone


def down(layout: Layout, report: Report) -> int:
    """End the whole stack. Returns how many processes the supervisor did not end by itself.

    Raises StackError while an `up` is at work.
    """
    if not layout.run.is_dir():
        return 0
    with alone(layout):
        supervisor = Supervisor(layout)
        if supervisor.alive():
            _stop(supervisor, layout, report)
        left = strays.end_marked(layout) + strays.end_postgres(layout)
        (layout.sockets / "supervisor.sock").unlink(missing_ok=True)
        return left


def _stop(supervisor: Supervisor, layout: Layout, report: Report) -> None:
    # The watchdog first: it would start again what stops. PostgreSQL last: what stops writes to it.
    supervisor.stop("watchdog")
    names = [name for name in supervisor.states() if name not in ("watchdog", "postgres")]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(supervisor.stop, names))
    if tasks := strays.end_marked(layout, but={supervisor.pid()}):
        report("tasks", f"ended {tasks} processes")
    supervisor.stop("postgres")
    report("services", "stopped")
    pid = supervisor.pid()
    supervisor.shutdown()
    strays.await_end(pid)
