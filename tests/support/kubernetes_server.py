"""An API server of a test's own, of Pods or EndpointSlices: lists in parts, watches, forgets, refuses, breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

TOKEN = "token-of-a-service-account"

Pod = dict[str, Any]

GROUPS = {"pods": "/api/v1", "endpointslices": "/apis/discovery.k8s.io/v1"}


def pod(name: str, ip: str = "10.0.0.1", *, ready: bool = True, port: int | None = 8000, **metadata: Any) -> Pod:
    """Describe a Pod as the API server does; ``metadata``: labels, annotations, uid, …"""
    labels = {"app": "engine", **metadata.pop("labels", {})}
    ports = [{"containerPort": port, "name": "http", "protocol": "TCP"}] if port else []
    return {
        "metadata": {"name": name, "namespace": "llm", "uid": f"uid-{name}", "labels": labels, **metadata},
        "spec": {"nodeName": "node-1", "containers": [{"name": "engine", "image": "x", "ports": ports}]},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def endpoint(ip: str, pod_name: str = "", **conditions: bool | None) -> dict[str, Any]:
    """Describe an endpoint of a slice; ``conditions``: ready, serving, terminating."""
    target = {"targetRef": {"kind": "Pod", "namespace": "llm", "name": pod_name}} if pod_name else {}
    return {"addresses": [ip], "conditions": conditions, "nodeName": "node-1", **target}


def endpoint_slice(name: str, *endpoints: dict[str, Any], family: str = "IPv4", **labels: str) -> dict[str, Any]:
    """Describe an EndpointSlice of a Service with the port ``http``."""
    return {
        "metadata": {
            "name": name, "namespace": "llm", "uid": f"uid-{name}",
            "labels": {"kubernetes.io/service-name": "engine", "app": "engine", **labels},
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
    }  # fmt: skip


class KubernetesServer:
    """Serves at ``port`` in a thread of its own. What the test changes is told to all watches."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, resource: str = "pods") -> None:
        """``resource``: what it has."""
        self._resource = resource
        self.requests: list[dict[str, str]] = []  # the parameters of each, with its path
        self.token = TOKEN
        self.refuses = 0  # a status for everything
        self.tells_expiry_in_the_watch = True  # else by the status of the answer
        self._tls = tls
        self._pods: dict[str, Pod] = {}
        self._version = 100
        self._oldest = 100  # a watch from before it has expired
        self._events: list[tuple[int, str, Pod]] = []
        self._watches: list[_Watch] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    # what a test does; from any thread

    def put(self, *pods: Pod) -> None:
        """Create objects, or put others in their place."""
        self._do(lambda: [self._put(one) for one in pods])

    def delete(self, name: str) -> None:
        """Take an object away for good."""
        self._do(lambda: self._tell("DELETED", self._pods.pop(f"uid-{name}")))

    def bookmark(self) -> None:
        """Tell the watches how far they are, after changes that don't concern them."""

        def tell() -> None:
            self._version += 50
            mark = {"kind": "Pod", "metadata": {"resourceVersion": str(self._version)}}
            for watch in self._watches:
                watch.send("BOOKMARK", mark)

        self._do(tell)

    def expire(self) -> None:
        """Forget what has happened: who goes on from before must list anew."""

        def expire() -> None:
            self._version += 10
            self._oldest, self._events = self._version, []

        self._do(expire)

    def end_watches(self, *, abruptly: bool = False) -> None:
        """End all watches as their time does, or by resetting their connections."""

        def end() -> None:
            for watch in tuple(self._watches):
                watch.writer.transport.abort() if abruptly else watch.end()

        self._do(end)

    def send_line(self, line: bytes) -> None:
        """Tell the watches something odd."""
        self._do(lambda: [watch.send_line(line) for watch in self._watches])

    @property
    def watching(self) -> int:
        """The watches that are open."""
        return len(self._watches)

    def lists(self) -> list[dict[str, str]]:
        return [each for each in self.requests if "watch" not in each and "continue" not in each]

    def kubeconfig(self, ca_path: str = "") -> str:
        """Return a kubeconfig for this server."""
        cluster: dict[str, Any] = {"server": f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"}
        if ca_path:
            cluster["certificate-authority"] = ca_path
        return json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "router", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "router", "namespace": "llm"}}],
        })  # fmt: skip

    # what it does

    def _do(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(20)

    def _put(self, one: Pod) -> None:
        uid = one["metadata"]["uid"]
        kind = "MODIFIED" if uid in self._pods else "ADDED"
        self._pods[uid] = one
        self._tell(kind, one)

    def _tell(self, kind: str, one: Pod) -> None:
        self._version += 1
        told = {**one, "metadata": {**one["metadata"], "resourceVersion": str(self._version)}}
        if kind != "DELETED":
            self._pods[one["metadata"]["uid"]] = told
        self._events.append((self._version, kind, told))
        for watch in self._watches:
            watch.offer(kind, told)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            # Cancelled by the test's end: asyncio would write a traceback of that.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.split("\r\n")
        url = urlsplit(line.split()[1])
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.requests.append({"path": url.path, **asked})
        if self.refuses:
            return _send(writer, self.refuses, _failure(self.refuses, "so it is"))
        if headers.get("authorization") != f"Bearer {self.token}":
            return _send(writer, 401, _failure(401, "Unauthorized"))
        group = GROUPS[self._resource]
        if url.path not in (f"{group}/namespaces/llm/{self._resource}", f"{group}/{self._resource}"):
            return _send(
                writer, 403, _failure(403, f"{self._resource} is forbidden: User router cannot list in {url.path}")
            )
        if asked.get("watch", "").lower() != "true":
            return _send(writer, 200, self._list(asked))
        return await self._watch(asked, reader, writer)

    def _list(self, asked: dict[str, str]) -> dict[str, Any]:
        begin, size = int(asked.get("continue", "0")), int(asked["limit"])
        all_pods = [one for one in self._pods.values() if _fits(one, asked["labelSelector"])]
        items = all_pods[begin : begin + size]
        more = {"continue": str(begin + size)} if begin + size < len(all_pods) else {}
        return {"kind": "PodList", "metadata": {"resourceVersion": str(self._version), **more}, "items": items}

    async def _watch(self, asked: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        version = int(asked["resourceVersion"])
        gone = _failure(410, f"too old resource version: {version} ({self._oldest})")
        if version < self._oldest and not self.tells_expiry_in_the_watch:
            return _send(writer, 410, gone)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        watch = _Watch(writer, asked["labelSelector"])
        if version < self._oldest:
            watch.send("ERROR", gone)
            watch.end()
            return False
        for when, kind, one in self._events:
            if when > version:
                watch.offer(kind, one)
        self._watches.append(watch)
        try:
            ended = asyncio.ensure_future(watch.ended.wait())
            left = asyncio.ensure_future(reader.read(1))
            await asyncio.wait((ended, left), return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            left.cancel()
            await asyncio.gather(ended, left, return_exceptions=True)
        finally:
            self._watches.remove(watch)
        return False

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    async def _start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        self._server.close()
        for writer in tuple(self._connections):
            writer.transport.abort()
        own = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


class _Watch:
    """A watch, and which Pods it knows: one that fits no more is told as deleted."""

    def __init__(self, writer: asyncio.StreamWriter, selector: str) -> None:
        self.writer = writer
        self.ended = asyncio.Event()
        self._selector = selector

    def offer(self, kind: str, one: Pod) -> None:
        if _fits(one, self._selector):
            self.send(kind, one)
        elif kind == "MODIFIED":
            self.send("DELETED", one)

    def send(self, kind: str, value: Any) -> None:
        self.send_line(json.dumps({"type": kind, "object": value}).encode())

    def send_line(self, line: bytes) -> None:
        if self.writer.transport.is_closing():
            return  # its client has left, or was cut off; asyncio tells of each further write on stderr
        self.writer.write(b"%x\r\n%b\n\r\n" % (len(line) + 1, line))

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        self.ended.set()


def _fits(one: Pod, selector: str) -> bool:
    wanted = dict(_pairs(selector))
    return wanted.items() <= one["metadata"]["labels"].items()


def _pairs(selector: str) -> Iterator[tuple[str, str]]:
    for pair in selector.split(","):
        name, _, text = pair.partition("=")
        yield name, text


def _failure(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "message": message, "reason": "x", "code": code}


def _send(writer: asyncio.StreamWriter, status: int, value: Any) -> bool:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    return True
