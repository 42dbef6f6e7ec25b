"""A cluster of processes: what ``kubectl`` is told to apply runs on this machine, each Pod at an address of its own.

It does what the tutorial and the manifests of ``examples/kubernetes`` need: Deployments whose Pods are started, found
ready by their probes, replaced one after the other, and told to end in order; a ConfigMap as files; a Service as an
address (of a server with one Pod) or as what ``port-forward`` leads to. The API server that routers watch is
``kubernetes_server``'s. All of 127.0.0.0/8 is this machine's, so that ports are those of the manifests.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.fleet import eventually
from tests.support.fork_server import SOURCES, ForkedProcess, fork_server
from tests.support.kubernetes_server import KubernetesServer
from tests.support.port_forward import forward
from tests.support.schemas import check_kubernetes

Manifest = dict[str, Any]
LIMIT_SECS = 60.0
LOOK_SECS = 0.05
NAMESPACE = "llm"

KUBECTL = """#!{python}
import json, os, signal, socket, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite that runs in the background hands on that it is ignored
with socket.socket(socket.AF_UNIX) as cluster:
    cluster.connect({path!r})
    cluster.sendall(json.dumps([sys.argv[1:], os.getcwd()]).encode() + b"\\n")
    code, text = json.loads(cluster.makefile().readline())
    print(text)
    cluster.recv(1)  # what goes on, as port-forward does, ends with this program
sys.exit(code)
"""


class PodProcess:
    """A Pod: one container, a process."""

    def __init__(self, name: str, ip: str, template: Manifest, process: Any, output: Any) -> None:
        self.name = name
        self.ip = ip
        self.template = template
        self.process = process
        self.is_ready = False
        self.is_ending = False
        self._output = output
        (self._container,) = template["spec"]["containers"]

    def look(self) -> bool:
        """Ask its readiness probe."""
        probe = self._container.get("readinessProbe", {})
        ports = {port["name"]: port["containerPort"] for port in self._container["ports"]}
        try:
            if asked := probe.get("httpGet"):
                return _status(self.ip, ports[asked["port"]], asked["path"]) == 200
            with socket.create_connection((self.ip, next(iter(ports.values()))), timeout=5):
                return True
        except OSError:
            return False

    @property
    def port(self) -> int:
        return int(self._container["ports"][0]["containerPort"])

    def stop(self) -> None:
        """Tell it to end, and wait until it has."""
        self.process.terminate()
        try:
            self.process.wait(LIMIT_SECS)
        finally:
            self.end()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT_SECS)
        self._output.close()

    def as_told(self) -> Manifest:
        """Describe it as the API server does."""
        metadata = {**self.template["metadata"], "name": self.name, "namespace": NAMESPACE, "uid": f"uid-{self.name}"}
        if self.is_ending:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        ready = {"type": "Ready", "status": "True" if self.is_ready else "False"}
        status = {"phase": "Running", "podIP": self.ip, "conditions": [ready]}
        return {"metadata": metadata, "spec": self.template["spec"], "status": status}


def _status(ip: str, port: int, path: str) -> int:
    with contextlib.closing(http.client.HTTPConnection(ip, port, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


class Deployment:
    """Keeps so many Pods of its template, and replaces those of an older one."""

    def __init__(self, cluster: LittleCluster, name: str) -> None:
        self.name = name
        self.pods: list[PodProcess] = []
        self.wanted: Manifest = {}
        self.replicas = 0
        self._cluster = cluster
        self._lock = threading.Lock()
        self._number = 0

    def apply(self, template: Manifest, replicas: int, *, recreate: bool) -> None:
        """Bring it about in a thread of its own."""
        self.wanted, self.replicas = template, replicas
        self._cluster.run(lambda: self._bring_about(recreate=recreate))

    @property
    def is_done(self) -> bool:
        return (
            not self._lock.locked()
            and len(self.pods) == self.replicas
            and all(pod.is_ready and pod.template == self.wanted for pod in self.pods)
        )

    def _bring_about(self, *, recreate: bool) -> None:
        with self._lock:
            old = [pod for pod in self.pods if pod.template != self.wanted]
            for pod in old if recreate else ():
                self._end(pod)
            while len(self._current()) < self.replicas and not self._cluster.is_over:
                new = self._start()
                if old and not recreate:  # one more than are wanted, and none less
                    eventually(lambda: new.is_ready or self._cluster.is_over, LIMIT_SECS)
                    self._end(old.pop())
            for pod in [*(() if recreate else old), *self._current()[self.replicas :]]:
                self._end(pod)

    def _current(self) -> list[PodProcess]:
        return [pod for pod in self.pods if pod.template == self.wanted]

    def _start(self) -> PodProcess:
        self._number += 1
        pod = self._cluster.start_pod(f"{self.name}-{self._number}", self.wanted)
        self.pods.append(pod)
        return pod

    def _end(self, pod: PodProcess) -> None:
        pod.is_ending, pod.is_ready = True, False
        self._cluster.tell(pod)
        pod.stop()
        self.pods.remove(pod)
        self._cluster.forget(pod)


class LittleCluster:
    """The cluster. Leaving it ends everything in it."""

    def __init__(self, folder: Path) -> None:
        self.is_over = False
        self._folder = folder
        self._net = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self._next = 1
        self._deployments: dict[str, Deployment] = {}
        self._services: dict[str, Manifest] = {}
        self._addresses: dict[str, str] = {}
        self._threads: list[threading.Thread] = []
        self._api = KubernetesServer()
        self._path = str(folder / "cluster.sock")
        cluster = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                arguments, cwd = json.loads(self.rfile.readline())
                with contextlib.ExitStack() as stack:
                    try:
                        answer = (0, cluster.kubectl(arguments, Path(cwd), stack))
                    except Exception as error:  # noqa: BLE001  (whatever it is, kubectl says it)
                        answer = (1, f"{type(error).__name__}: {error}")
                    self.wfile.write(json.dumps(answer).encode() + b"\n")
                    if arguments[0] == "port-forward":
                        self.rfile.read(1)

        self._server = socketserver.ThreadingUnixStreamServer(self._path, Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        self._api.__enter__()
        (self._folder / "kubeconfig").write_text(self._api.kubeconfig())
        self.run(self._server.serve_forever)
        self.run(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(LIMIT_SECS)
        for deployment in self._deployments.values():
            for pod in deployment.pods:
                pod.end()
        self._api.__exit__(None, None, None)

    def run(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    @property
    def program(self) -> str:
        """What stands in for kubectl."""
        return KUBECTL.format(python=sys.executable, path=self._path)

    # Pods

    def start_pod(self, name: str, template: Manifest) -> PodProcess:
        self._next += 1
        ip = f"{self._net}.{self._next}"
        (container,) = template["spec"]["containers"]
        folder = self._folder / name
        folder.mkdir()
        output = (self._folder / f"{name}.log").open("wb")
        image, arguments = container["image"], [str(each) for each in container["args"]]
        if "valkey" in image:
            program = shutil.which("redis-server")
            assert program
            service = self._address(template["metadata"]["labels"]["app.kubernetes.io/name"])
            arguments = [str(folder) if each == "/tmp" else each for each in arguments]
            command = [program, *arguments, "--bind", service, ip, "--protected-mode", "no"]
            process: Any = subprocess.Popen(command, stdout=output, stderr=output)
        else:
            process = self._start_program(template, arguments, ip, folder, output)
        pod = PodProcess(name, ip, template, process, output)
        self.tell(pod)
        return pod

    def _start_program(
        self, template: Manifest, arguments: Sequence[str], ip: str, folder: Path, output: Any
    ) -> ForkedProcess:
        (container,) = template["spec"]["containers"]
        volumes = {volume["name"]: volume.get("configMap", {}) for volume in template["spec"].get("volumes", ())}
        text = "\0".join(arguments).replace("0.0.0.0", ip)
        for mount in container.get("volumeMounts", ()):
            for name, data in volumes[mount["name"]].get("files", {}).items():
                (folder / name).write_text(self._with_addresses(data))
            text = text.replace(mount["mountPath"], str(folder))
        environment = {
            "PYTHONPATH": str(SOURCES), "KUBECONFIG": str(self._folder / "kubeconfig"), "no_proxy": "*",
            "FD_ROUTER_SERVER_HOST": ip,
            "FD_ROUTER_SERVER_DRAIN_DELAY_SECS": "0.5",  # this cluster looks at readiness all the time
        }  # fmt: skip
        if text.startswith("mock"):
            environment = {name: value for name, value in environment.items() if not name.startswith("FD_ROUTER")}
        return fork_server().start(text.split("\0"), output=output.fileno(), environment=environment, cwd=folder)

    def _with_addresses(self, text: str) -> str:
        """Put addresses in the place of Services' names, for want of a DNS."""
        for name in self._services:
            text = text.replace(f"//{name}:", f"//{self._address(name)}:")
        return text

    def _address(self, service: str) -> str:
        return self._addresses.setdefault(service, f"{self._net}.{250 - len(self._addresses)}")

    def tell(self, pod: PodProcess) -> None:
        self._api.put(pod.as_told())

    def forget(self, pod: PodProcess) -> None:
        self._api.delete(pod.name)

    def _pods(self) -> list[PodProcess]:
        return [pod for deployment in self._deployments.values() for pod in deployment.pods]

    def _look(self) -> None:
        while not self.is_over:
            for pod in self._pods():
                is_ready = not pod.is_ending and pod.look()
                if is_ready != pod.is_ready and not pod.is_ending:
                    pod.is_ready = is_ready
                    self.tell(pod)
            time.sleep(LOOK_SECS)

    # kubectl

    def kubectl(self, arguments: Sequence[str], cwd: Path, stack: contextlib.ExitStack) -> str:
        command, *rest = arguments
        if command == "apply":
            return self._apply(rest, cwd)
        if command == "get":
            rows = [f"{pod.name}   {int(pod.is_ready)}/1     Running" for pod in self._pods()]
            return "\n".join(["NAME   READY   STATUS", *rows])
        if command == "scale":
            deployment = self._named(rest[0])
            recreate = False
            deployment.apply(deployment.wanted, int(rest[1].removeprefix("--replicas=")), recreate=recreate)
            return f"{rest[0]} scaled"
        if command == "port-forward":
            return self._forward(rest[0].removeprefix("service/"), int(rest[1].partition(":")[0]), stack)
        if command == "rollout":
            return self._rollout(rest[0], self._named(rest[1]))
        raise ValueError(f"no such command: {command}")

    def _named(self, name: str) -> Deployment:
        return self._deployments[name.removeprefix("deployment/")]

    def _rollout(self, action: str, deployment: Deployment) -> str:
        if action == "status":
            eventually(lambda: deployment.is_done, LIMIT_SECS)
            return f'deployment "{deployment.name}" successfully rolled out'
        template = json.loads(json.dumps(deployment.wanted))
        annotations = template["metadata"].setdefault("annotations", {})
        annotations["kubectl.kubernetes.io/restartedAt"] = str(time.monotonic())
        deployment.apply(template, deployment.replicas, recreate=deployment.name == "fd-router-state")
        return f"deployment.apps/{deployment.name} restarted"

    def _apply(self, rest: Sequence[str], cwd: Path) -> str:
        flag, path = rest
        if flag == "-f":
            return self._apply_all(list(yaml.safe_load_all((cwd / path).read_text())), {})
        folder = cwd / path
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        manifests = [
            one for name in kustomization["resources"] for one in yaml.safe_load_all((folder / name).read_text())
        ]
        files = {
            made["name"]: {name: (folder / name).read_text() for name in made["files"]}
            for made in kustomization["configMapGenerator"]
        }
        return self._apply_all(manifests, files)

    def _apply_all(self, manifests: Sequence[Manifest], files: dict[str, dict[str, str]]) -> str:
        for manifest in manifests:
            check_kubernetes(manifest)
        self._services |= {one["metadata"]["name"]: one for one in manifests if one["kind"] == "Service"}
        said = []
        for manifest in manifests:
            kind, name = manifest["kind"], manifest["metadata"]["name"]
            group = manifest["apiVersion"].partition("/")[0] if "/" in manifest["apiVersion"] else ""
            is_new = True
            if kind == "Deployment":
                is_new = name not in self._deployments
                self._deploy(name, manifest["spec"], files)
            said.append(
                f"{kind.lower()}{group and '.'}{group.split('.')[0]}/{name} {'created' if is_new else 'configured'}"
            )
        return "\n".join(said)

    def _deploy(self, name: str, spec: Manifest, files: dict[str, dict[str, str]]) -> None:
        template = json.loads(json.dumps(spec["template"]))
        for volume in template["spec"].get("volumes", ()):
            if (config := volume.get("configMap")) is not None:
                config["files"] = files[config["name"]]  # another content is another template, as by the name's hash
        deployment = self._deployments.setdefault(name, Deployment(self, name))
        recreate = spec.get("strategy", {}).get("type") == "Recreate"
        deployment.apply(template, spec["replicas"], recreate=recreate)

    def _forward(self, service: str, port: int, stack: contextlib.ExitStack) -> str:
        """Lead a port of this machine to one of the Service's Pods that are ready, chosen for each connection."""
        selector = self._services[service]["spec"]["selector"]

        def choose() -> tuple[str, int]:
            ready = [
                pod
                for pod in self._pods()
                if pod.is_ready and selector.items() <= pod.template["metadata"]["labels"].items()
            ]
            return (ready[0].ip, ready[0].port)

        stack.enter_context(forward(port, choose))
        return f"Forwarding from 127.0.0.1:{port}"
