"""A hub set over the wire: from a server that answers as the hub does, then without it, from what was kept."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

ID = "databricks/databricks-dolly-15k"
CLIENT = """
import json, sys
from pathlib import Path
from theta_ml.corpus.catalog import load_catalog
from theta_ml.corpus.sources import fingerprint, read
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed

settings = Settings(home=Path(sys.argv[1]))
dolly = load_catalog(settings).get("dolly")
for dataset in (dolly, dolly.model_copy(update={"limit": 2})):
    try:
        key = fingerprint(dataset, settings)
        found = [row for reading in read(dataset, settings) for row in reading.batch.messages["content"]]
        print(json.dumps([key, found]))
    except StageFailed as error:
        print(json.dumps(["failed", str(error)]))
"""


class Hub(ThreadingHTTPServer):
    """Holds one set of one file, at one commit at a time."""

    commit = "a" * 40
    rows = 3

    @property
    def content(self) -> bytes:
        rows = (
            {"instruction": f"{n}?", "context": "", "response": self.commit[0], "category": "x"}
            for n in range(self.rows)
        )
        return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, about = urlparse(self.path).path, f"/api/datasets/{ID}"
        size, digest = len(self.server.content), hashlib.sha1(self.server.content).hexdigest()
        if path == about or path.startswith(f"{about}/revision/"):
            siblings = [{"rfilename": "data.jsonl"}]
            self._send({"id": ID, "sha": self.server.commit, "siblings": siblings, "private": False, "tags": []})
        elif path == f"{about}/tree/{self.server.commit}":
            self._send([{"type": "file", "path": "data.jsonl", "size": size, "oid": digest}])
        elif path == f"/datasets/{ID}/resolve/{self.server.commit}/data.jsonl":
            self._send(self.server.content, ETag=f'"{digest}"')
        else:
            self._send({"error": "none"}, 404, **{"X-Error-Code": "EntryNotFound"})

    def _send(self, answer: object, status: int = 200, **headers: str) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        standard = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in (standard | {"X-Repo-Commit": self.server.commit} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def hub() -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client(server: Hub, folder: Path, home: str = "home", **environment: str) -> list[list[Any]]:
    env = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(folder / "hf")}
    command = [sys.executable, "-c", CLIENT, str(folder / home)]
    done = subprocess.run(command, env=env | environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_set_is_fetched_once_and_read_at_the_commit_its_key_names(tmp_path: Path) -> None:
    with hub() as server:
        whole, first = client(server, tmp_path)
        assert whole[1] == ["0?", "a", "1?", "a", "2?", "a"]
        assert first[1] == ["0?", "a", "1?", "a"]
        without_network = client(server, tmp_path, HF_HUB_OFFLINE="1")
        assert without_network == [whole, first]
        server.commit = "b" * 40
        later, _ = client(server, tmp_path)
        assert later[1] == ["0?", "b", "1?", "b", "2?", "b"]
        assert later[0] != whole[0]
        kept = tmp_path / "home" / "cache" / "hub" / "commits"
        (kept / next(kept.iterdir())).write_text("c" * 40)  # asked for, and then the network went away
        for outcome, message in client(server, tmp_path, HF_HUB_OFFLINE="1"):
            assert outcome == "failed"
            assert "dataset dolly" in message
            assert "commit cccccccccccc is not kept here" in message
        for outcome, message in client(server, tmp_path, "other", HF_HUB_OFFLINE="1"):
            assert outcome == "failed"
            assert "theta data add dolly --disable" in message
