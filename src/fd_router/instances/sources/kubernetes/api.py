"""The API server: lists objects and watches them, over kubernetes_asyncio's client, which knows clusters' ways in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from fd_router.config.discovery import KubernetesEntry
from fd_router.errors import UNREADABLE, ConfigError
from fd_router.instances.sources.kubernetes.objects import EndpointSlice, Event, Failure, Listed, Pod

MISSING: Final = (
    "discovery.kubernetes needs the package kubernetes_asyncio: pip install 'kubernetes_asyncio>=31' (in a clone: "
    "pip install '.[kubernetes]')"
)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a Pod finds its token, the cluster's certificate, and its namespace."""

PART: Final = 500
"""Objects in one part of a list, as kubectl asks for them."""

WATCH_SECS: Final = 75
"""How long the API server is to keep one watch open: the next one goes on where it ended."""

SILENT_SECS: Final = 15
"""How much later it may end; a connection that has died without a word is given up then."""

CONNECT_SECS: Final = 10.0
LIST_SECS: Final = 60.0

MAX_LINE: Final = 16 << 20
"""Bytes of one event; the API server's objects are smaller by far."""


class ApiFailedError(Exception):
    """The API server can't be reached, or refuses."""


class NotTrustedError(ApiFailedError):
    """One of the two doesn't trust the other: by credentials or certificates that may have been replaced."""


class ExpiredError(Exception):
    """The version from which to go on is too old (410 Gone): everything has to be listed anew."""


ObjectT = TypeVar("ObjectT", bound=Pod | EndpointSlice)


class Resource(NamedTuple, Generic[ObjectT]):
    """A kind of objects: what they and lists of them are read as, and the client's names of what asks for them."""

    plural: str
    model: type[ObjectT]
    listed: type[Listed[ObjectT]]
    group: str
    of_namespace: str
    of_all: str


PODS: Final = Resource("Pods", Pod, Listed[Pod], "CoreV1Api", "list_namespaced_pod", "list_pod_for_all_namespaces")

ENDPOINT_SLICES: Final = Resource(
    "EndpointSlices", EndpointSlice, Listed[EndpointSlice], "DiscoveryV1Api",
    "list_namespaced_endpoint_slice", "list_endpoint_slice_for_all_namespaces",
)  # fmt: skip


class Change(NamedTuple, Generic[ObjectT]):
    """What a watch tells: an object that was ADDED, MODIFIED or DELETED, or just how far it is (BOOKMARK)."""

    type: str
    object: ObjectT


class ClusterApi(Generic[ObjectT]):
    """One cluster's objects of one kind by one selector. Connects when it is asked for something."""

    def __init__(self, option: str, options: KubernetesEntry, resource: Resource[ObjectT]) -> None:
        """Raise ConfigError, which begins with ``option``, where the package or the kubeconfig is missing."""
        try:
            self._client: Any = import_module("kubernetes_asyncio.client")
            self._config: Any = import_module("kubernetes_asyncio.config")
            self._http: Any = import_module("aiohttp")
        except ImportError:
            raise ConfigError(MISSING) from None
        self._kubeconfig = str(Path(options.kubeconfig).expanduser()) if options.kubeconfig else None
        if self._kubeconfig and not Path(self._kubeconfig).is_file():
            raise ConfigError(f"{option}.kubeconfig: {options.kubeconfig}: no such file")
        self._options = options
        self._resource = resource
        self._api: Any = None
        self._group: Any = None  # the client's functions of the resource's group
        self._namespace = options.namespace

    async def list(self) -> tuple[Sequence[ObjectT], str]:
        """Return all objects, and the version from which a watch goes on.

        Raises ApiFailedError; ExpiredError when the list has changed too much between its parts.
        """
        found: list[ObjectT] = []
        token: str | None = None
        while True:
            more = {"_continue": token} if token else {}
            answer = await self._ask(LIST_SECS, limit=PART, **more)
            try:
                page = msgspec.json.decode(await self._read(answer), type=self._resource.listed)
            except msgspec.DecodeError as error:
                raise ApiFailedError(f"the list of {self._resource.plural} can't be read: {error}") from None
            found += page.items or ()
            token = page.metadata.continue_
            if not token:
                return found, page.metadata.resource_version

    async def watch(self, version: str) -> AsyncIterator[Change[ObjectT] | None]:
        """Give what changes from ``version`` on, until the API server ends it: None first, once it has begun.

        Raises ApiFailedError, ExpiredError.
        """
        limit = WATCH_SECS + SILENT_SECS
        answer = await self._ask(
            limit, watch=True, allow_watch_bookmarks=True, resource_version=version, timeout_seconds=WATCH_SECS
        )
        yield None
        try:
            async for line in self._lines(answer):
                yield _change(line, self._resource.model)
        finally:
            answer.close()

    async def close(self) -> None:
        """Close all connections, and forget how the cluster is reached."""
        if self._api is not None:
            api, self._api = self._api, None
            await api.close()

    async def _ask(self, seconds: float, **parameters: Any) -> Any:
        """Send a request for objects, and return the answer whose body comes yet. Raises as above."""
        try:
            if self._api is None:
                await self._open()
            options = self._options
            if options.field_selector:
                parameters["field_selector"] = options.field_selector
            every = self._namespace == "*"
            ask = getattr(self._group, self._resource.of_all if every else self._resource.of_namespace)
            timeout = self._http.ClientTimeout(total=seconds, sock_connect=CONNECT_SECS)
            answer = await ask(
                *(() if every else (self._namespace,)),
                label_selector=options.label_selector,
                _preload_content=False,
                _request_timeout=timeout,
                **parameters,
            )
            if answer.status != 200:
                _refuse(answer.status, await answer.read())
        except (self._http.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None
        return answer

    async def _read(self, answer: Any) -> bytes:
        try:
            body: bytes = await answer.read()
        except (self._http.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None
        return body

    async def _lines(self, answer: Any) -> AsyncIterator[bytes]:
        """Give the lines of a body. One that breaks off ends like any other: the next watch goes on from there."""
        rest = b""
        try:
            async for piece in answer.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield line
                if len(rest) > MAX_LINE:
                    raise ApiFailedError(f"an event is longer than {MAX_LINE >> 20} MB")
        except (self._http.ClientError, TimeoutError, OSError):
            return

    async def _open(self) -> None:
        """Find out how the cluster is reached: as the options say, as a Pod in it, or as kubectl does."""
        settings = self._client.Configuration()
        options = self._options
        try:
            if options.kubeconfig or options.context or not _in_cluster():
                loader = await self._config.load_kube_config(
                    config_file=self._kubeconfig, context=options.context or None, client_configuration=settings,
                    persist_config=False,
                )  # fmt: skip
                own = loader.current_context["context"].get("namespace")
            else:
                self._config.load_incluster_config(
                    client_configuration=settings,
                    token_filename=str(SERVICE_ACCOUNT / "token"),
                    cert_filename=str(SERVICE_ACCOUNT / "ca.crt"),
                )
                own = _text(SERVICE_ACCOUNT / "namespace")
        except self._config.ConfigException as error:
            raise ApiFailedError(f"no way into a cluster: {' '.join(str(error).split())}") from None
        self._namespace = options.namespace or own or "default"
        make = partial(self._client.ApiClient, configuration=settings)
        making = asyncio.create_task(asyncio.to_thread(_made_for, asyncio.get_running_loop(), make))
        try:
            self._api = await asyncio.shield(making)
        except asyncio.CancelledError:
            self._api = await making  # to be closed
            raise
        self._group = getattr(self._client, self._resource.group)(self._api)

    def _unreachable(self, error: BaseException) -> ApiFailedError:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        kind = NotTrustedError if isinstance(error, self._http.ClientSSLError) else ApiFailedError
        return kind(f"the API server can't be reached: {' '.join(why.split())[:300] or type(error).__name__}")

    def __repr__(self) -> str:
        where = self._namespace or "its own namespace"
        return f"<ClusterApi {self._resource.plural} {self._options.label_selector} in {where}>"


def _made_for(loop: asyncio.AbstractEventLoop, make: Callable[[], Any]) -> Any:
    """Call ``make`` in another thread than that of the ``loop`` which what it makes is for.

    aiohttp takes the running loop's word for that; loading the system's authorities there would hold it for 0.15 s.
    """
    asyncio._set_running_loop(loop)  # noqa: SLF001  of this thread, which runs none
    try:
        return make()
    finally:
        asyncio._set_running_loop(None)  # noqa: SLF001


def _in_cluster() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT / "token").is_file()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _change(line: bytes, of: type[ObjectT]) -> Change[ObjectT]:
    """Read a line of a watch. Raises ExpiredError, ApiFailedError for one that tells of a failure."""
    try:
        event = msgspec.json.decode(line, type=Event)
        if event.type == "ERROR":
            failure = msgspec.json.decode(event.object, type=Failure)
            _refuse(failure.code, bytes(event.object))
        return Change(event.type, msgspec.json.decode(event.object, type=of))
    except msgspec.DecodeError as error:
        raise ApiFailedError(f"an event can't be read: {error}") from None


def _refuse(status: int, body: bytes) -> None:
    """Raise the error for an answer that isn't what was asked for."""
    try:
        told = msgspec.json.decode(body, type=Failure).message
    except UNREADABLE:
        told = ""
    if status == 410:
        raise ExpiredError(told)
    kind = NotTrustedError if status == 401 else ApiFailedError
    raise kind(f"the API server refuses ({status}): {' '.join(told.split())[:300] or 'no reason told'}")
