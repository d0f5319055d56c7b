"""The images of the test: Theta's, built as a user builds it, and stand-ins for those that cannot be pulled."""

import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.request import url2pathname

from tests.conftest import REPOSITORY
from tests.containers.engine import Engine

BASE = "debian:bookworm-slim"
THETA = "theta-test"
UPSTREAM = ("postgres:18", "redis:8-alpine", "versity/versitygw:v1.8.0")
"""As docker-compose.yaml has them."""
STAND_INS = ("postgres", "redis", "store")
BUILD_SECONDS = 3600


def make_images(engine: Engine) -> list[str]:
    """Names of the compose files to use: the user's, and that of the stand-ins where these are needed."""
    if not engine.has_image(BASE):
        _bootstrap(engine)
    with _served_wheels() as links:
        arguments = _pip_arguments(links)
        _build(engine, THETA, REPOSITORY, *arguments, *_argument("TORCH", "cpu"))
        if all(engine.has_image(name) for name in UPSTREAM):
            return ["docker-compose.yaml"]
        for name in STAND_INS:
            theta = _argument("THETA_IMAGE", THETA)
            _build(engine, f"{THETA}-{name}", Path(__file__).parent, "--target", name, *theta, *arguments)
    return ["docker-compose.yaml", "stand-ins.yaml"]


def _build(engine: Engine, name: str, folder: Path, *arguments: str) -> None:
    # The machine's own network: it reaches the package index, and the wheels that are served on loopback.
    engine.docker("build", "--network=host", f"--tag={name}", *arguments, str(folder), timeout=BUILD_SECONDS)


def _argument(name: str, value: str) -> tuple[str, str]:
    return "--build-arg", f"{name}={value}"


def _bootstrap(engine: Engine) -> None:
    """Debian's smallest, from Debian's own packages, under the name of the image that holds just that.

    What this machine trusts, the image trusts: the way to the package index may go through a proxy.
    """
    folder = Path(tempfile.mkdtemp(prefix="theta-debian-"))
    try:
        command = ["debootstrap", "--variant=minbase", "bookworm", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        local = Path("usr/local/share/ca-certificates")
        shutil.copytree(Path("/") / local, folder / local, dirs_exist_ok=True)
        shutil.rmtree(folder / "var/cache/apt/archives")
        tar = subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["docker", "import", "-", BASE], stdin=tar.stdout, env=engine.env, check=True, timeout=600)
        assert tar.wait() == 0
    finally:
        shutil.rmtree(folder)


def _pip_arguments(links: list[str]) -> list[str]:
    """This machine's pip configuration as build arguments; of files on its disk, as what is served."""
    asked = {"PIP_INDEX_URL": _pip("index-url"), "PIP_EXTRA_INDEX_URL": _pip("extra-index-url")}
    remote = {name: " ".join(url for url in urls if not url.startswith("file:")) for name, urls in asked.items()}
    given = remote | {"PIP_FIND_LINKS": " ".join(links), "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt"}
    return [part for name, value in given.items() if value for part in _argument(name, value)]


def _pip(option: str) -> list[str]:
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    values = [
        line.split("=", 1)[1].strip("'\"") for line in said.splitlines() if line.split("=")[0].endswith(f".{option}")
    ]
    return list(dict.fromkeys(part for value in values for part in value.split()))


@contextmanager
def _served_wheels() -> Iterator[list[str]]:
    """Addresses, on loopback, of the folders that pip is told to look into."""
    folders = [Path(url2pathname(link.removeprefix("file://"))) for link in _pip("find-links") if "http" not in link]
    servers = [_serve(folder) for folder in folders if folder.is_dir()]
    try:
        yield [f"http://127.0.0.1:{server.server_port}/" for server in servers]
    finally:
        for server in servers:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """pip asks once for each package."""

    def log_message(self, *_: object) -> None:
        pass


def _serve(folder: Path) -> http.server.ThreadingHTTPServer:
    handler = partial(_Quiet, directory=os.fspath(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
