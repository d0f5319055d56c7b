"""A cluster of one machine: Kubernetes' REST calls over HTTP, and a pod's container as a process of this machine.

The outermost edge: provider, client and command are the real ones. An image is a folder with a program `theta` in it,
a volume a folder.
"""

import json
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

NAMESPACE = "theta-test"
VERSION = "1.33"
Json = dict[str, Any]


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Pod:
    """As the API has it, and its container."""

    manifest: Json
    process: subprocess.Popen[bytes] | None = None
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def say(self, line: bytes) -> None:
        with self.changed:
            self.lines.append(f"{now()} {line.decode()}")
            self.changed.notify_all()

    def follow(self) -> Iterator[str]:
        """Its lines, until the container is over."""
        seen, done = 0, False
        while not done:
            fresh, done = self._since(seen)
            yield from fresh
            seen += len(fresh)

    def _since(self, seen: int) -> tuple[list[str], bool]:
        """Its lines from that one on, and whether there will be no more."""
        with self.changed:
            self.changed.wait_for(lambda: self.over or len(self.lines) > seen)
            return self.lines[seen:], self.over

    def set_status(self, phase: str, **state: Json) -> None:
        container = {"name": "base", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        self.manifest["status"] = {"phase": phase, "containerStatuses": [container], "startTime": now()}


class Cluster:
    """Secrets by name; images by name, as folders; volumes in a folder. `api` is its kubeconfig."""

    def __init__(self, folder: Path, images: dict[str, Path], secrets: dict[str, dict[str, str]]) -> None:
        self.folder, self.images, self.secrets = folder, images, secrets
        self.pods: dict[str, Pod] = {}
        self.created: list[Json] = []
        """Manifests of all pods there ever were."""
        self.ended: dict[str, int] = {}
        """Exit codes by name."""
        self.graces: list[int] = []
        self.out_of_memory = self.away = False
        self.quota = 100
        """So many pods at once."""
        self.changed = threading.Condition()

    def create(self, manifest: Json) -> Json:
        """Raises ValidationError where it is no pod."""
        kubernetes_validate.validate(manifest, VERSION, strict=True)
        manifest["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        pod = self.pods[manifest["metadata"]["name"]] = Pod(manifest)
        self.created.append(json.loads(json.dumps(manifest)))
        image = manifest["spec"]["containers"][0]["image"]
        if image not in self.images:
            pod.set_status("Pending", waiting={"reason": "ErrImagePull", "message": f"{image}: not found"})
            return pod.manifest
        pod.set_status("Running", running={"startedAt": now()})
        threading.Thread(target=self._run, args=[pod, self.images[image]], daemon=True).start()
        with self.changed:
            self.changed.notify_all()
        return pod.manifest

    def _run(self, pod: Pod, image: Path) -> None:
        container = pod.manifest["spec"]["containers"][0]
        env = {name: value for ref in container.get("envFrom", []) for name, value in self._secret(ref).items()}
        env |= {each["name"]: self._mounted(each["value"], container, pod) for each in container["env"]}
        command = container["args"]
        pod.process = subprocess.Popen(
            command,
            env=env | {"PATH": f"{image}:{os.defpath}", "LANG": "C.UTF-8"},
            executable=str(image / command[0]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert pod.process.stdout
        for line in pod.process.stdout:
            pod.say(line)
        self._end(pod, pod.process.wait())

    def _secret(self, reference: Json) -> dict[str, str]:
        return self.secrets[reference["secretRef"]["name"]]

    def _mounted(self, value: str, container: Json, pod: Pod) -> str:
        """A path in a volume is one in its folder."""
        for mount in container["volumeMounts"]:
            if value == mount["mountPath"]:
                (volume,) = (each for each in pod.manifest["spec"]["volumes"] if each["name"] == mount["name"])
                claim = volume.get("persistentVolumeClaim", {}).get("claimName", f"{pod.name}-{mount['name']}")
                return str(self.folder / claim)
        return value

    def _end(self, pod: Pod, code: int) -> None:
        code = 128 - code if code < 0 else code
        reason = "OOMKilled" if self.out_of_memory else "Completed" if code == 0 else "Error"
        ended = {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}
        pod.set_status("Failed" if code else "Succeeded", terminated=ended)
        self.ended[pod.name] = code
        with pod.changed:
            pod.over = True
            pod.changed.notify_all()
        if pod.manifest["metadata"].get("deletionTimestamp"):
            self._remove(pod)

    def delete(self, pod: Pod, grace: int) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds; also what it owns."""
        self.graces.append(grace)
        uid = pod.manifest["metadata"]["uid"]
        for other in list(self.pods.values()):
            if uid in [owner["uid"] for owner in other.manifest["metadata"].get("ownerReferences", [])]:
                self.delete(other, grace)
        if pod.process is None or pod.over:
            self._remove(pod)
            return
        pod.manifest["metadata"]["deletionTimestamp"] = now()
        with suppress(ProcessLookupError):
            os.killpg(pod.process.pid, signal.SIGTERM)
        threading.Timer(grace, self._kill, [pod]).start()

    def _kill(self, pod: Pod) -> None:
        if pod.process and not pod.over:
            with suppress(ProcessLookupError):
                os.killpg(pod.process.pid, signal.SIGKILL)

    def _remove(self, pod: Pod) -> None:
        self.pods.pop(pod.name, None)
        with self.changed:
            self.changed.notify_all()

    def until(self, count: int, seconds: float = 20) -> None:
        """That many pods are there."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.pods) == count, seconds), list(self.pods)

    def close(self) -> None:
        for pod in list(self.pods.values()):
            self._kill(pod)


def selected(pod: Pod, selector: str) -> bool:
    """By labels: `a=b`, `a!=b`, `!a`."""
    labels = pod.manifest["metadata"].get("labels", {})
    for term in selector.split(","):
        if "!=" in term:
            name, value = term.split("!=")
            fits = labels.get(name) != value
        elif term.startswith("!"):
            fits = term[1:] not in labels
        else:
            name, value = term.split("=")
            fits = labels.get(name) == value
        if not fits:
            return False
    return True


class Api(BaseHTTPRequestHandler):
    """The calls that the provider makes."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def do_GET(self) -> None:
        path, query = self._asked()
        if self.cluster.away:
            self._refuse(503, "the API server is being restarted")
            return
        match path:
            case ["pods"]:
                selector = query.get("labelSelector", "")
                found = [pod.manifest for pod in list(self.cluster.pods.values()) if selected(pod, selector)]
                self._answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})
            case ["pods", name, "log"]:
                self._stream(self.cluster.pods[name])
            case ["pods", name] if name in self.cluster.pods:
                self._answer(200, self.cluster.pods[name].manifest)
            case ["events"]:
                self._answer(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})
            case _:
                self._refuse(404, f"{'/'.join(path)} not found")

    def do_POST(self) -> None:
        manifest = self._body()
        if manifest["metadata"]["name"] in self.cluster.pods:
            self._refuse(409, "it exists")
            return
        if len(self.cluster.pods) >= self.cluster.quota:
            self._refuse(403, f"pods is forbidden: exceeded quota: {self.cluster.quota}")
            return
        try:
            self._answer(201, self.cluster.create(manifest))
        except kubernetes_validate.ValidationError as error:
            self._refuse(422, f"Pod is invalid: {error.message}")

    def do_PATCH(self) -> None:
        (_, name), _ = self._asked()
        manifest = self.cluster.pods[name].manifest
        manifest["metadata"]["labels"] |= self._body()["metadata"]["labels"]
        self._answer(200, manifest)

    def do_DELETE(self) -> None:
        (_, name), query = self._asked()
        self._body()
        if name not in self.cluster.pods:
            self._refuse(404, f"pods {name} not found")
            return
        pod = self.cluster.pods[name]
        default = pod.manifest["spec"].get("terminationGracePeriodSeconds", 30)
        self.cluster.delete(pod, int(query.get("gracePeriodSeconds", default)))
        self._answer(200, pod.manifest)

    def _asked(self) -> tuple[list[str], dict[str, str]]:
        """What of the namespace, and the query."""
        url = urlsplit(self.path)
        prefix = f"/api/v1/namespaces/{NAMESPACE}/"
        assert url.path.startswith(prefix), url.path
        return url.path.removeprefix(prefix).split("/"), {name: each[0] for name, each in parse_qs(url.query).items()}

    def _body(self) -> Any:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return json.loads(text) if text else {}

    def _answer(self, status: int, content: Json) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message})

    def _stream(self, pod: Pod) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # who listened is gone
            for line in pod.follow():
                if self.cluster.away:
                    break
                chunk = line.encode()
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: Any) -> None:
        """Nothing on stderr."""


@contextmanager
def serving(cluster: Cluster, kubeconfig: Path) -> Iterator[str]:
    """Its API; writes a kubeconfig for it, and says its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneApi", (Api,), {"cluster": cluster}))
    server.daemon_threads = True
    url = f"http://127.0.0.1:{server.server_port}"
    named = {"name": "here", "cluster": {"server": url}}
    context = {"name": "here", "context": {"cluster": "here", "user": "here", "namespace": NAMESPACE}}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "here", "clusters": [named]}
    kubeconfig.write_text(json.dumps(config | {"contexts": [context], "users": [{"name": "here", "user": {}}]}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        cluster.close()
        server.shutdown()
        server.server_close()
