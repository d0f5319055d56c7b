"""Are the ports free?"""

import errno
import socket

import psutil

from theta_ml.local.layout import StackError


def check_ports(ports: dict[str, int]) -> None:
    """Raise StackError, naming the variable, where a port is taken, forbidden, or wanted twice."""
    seen: dict[int, str] = {}
    for variable, port in ports.items():
        if port in seen:
            raise StackError(f"{seen[port]} and {variable} are both {port}: set one of them to another port")
        seen[port] = variable
        _check_port(variable, port)


def _check_port(variable: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StackError(f"port {port} is taken{_holder(port)}: set {variable} to a free one") from None
            raise StackError(f"port {port} cannot be used ({error.strerror}): set {variable} to another") from None


def _holder(port: int) -> str:
    try:
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid]
        pid = next(c.pid for c in listening if c.laddr and c.laddr.port == port)
        return f" (by pid {pid}, {psutil.Process(pid).name()})"
    except (StopIteration, psutil.Error):
        return ""  # another user's process: the system does not say which
