"""The client of a Redis or Valkey server: from options to one that speaks to a server, a sentinel's or a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from fd_router.config.state import StateConfig
from fd_router.errors import ConfigError
from fd_router.state.redis.checks import require_usable
from fd_router.state.redis.cluster import Cluster, Place

if TYPE_CHECKING:
    from redis.asyncio import Redis

MISSING = "state.url needs the package redis: pip install 'redis[hiredis]>=5.1' (in a clone: pip install '.[redis]')"

REDIS_PORT, SENTINEL_PORT = 6379, 26379
"""Where a URL names none."""

_TLS_FILES = {"ssl_ca_certs": "ca_file", "ssl_certfile": "cert_file", "ssl_keyfile": "key_file"}


def open_client(options: StateConfig, *, read_secs: float | None, at: Place | None = None) -> Redis:
    """Make a client, which connects when it is first used. ``read_secs``: how long an answer may take; None: any time.

    ``at``: which node of a cluster; None: the first one at the URL. Raises ConfigError for options that don't go
    together or name no server, for files that can't be used, and where the package is missing.
    """
    require_usable(options)
    try:
        redis: Any = import_module("redis.asyncio")
        settings = _settings(options, read_secs)
    except ImportError:
        raise ConfigError(MISSING) from None
    client: Redis
    try:
        if options.sentinel_master:
            client = _of_sentinel(options, settings)
        elif options.cluster:
            host, port = at or _places(options.url, REDIS_PORT)[0]
            client = redis.Redis(host=host, port=port, **_many(options, settings))
        else:
            client = redis.Redis.from_url(options.url, **settings)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"state.url: {shown(options.url)!r} names no server: {error}") from None
    return client


def open_cluster(options: StateConfig, key: str) -> Cluster:
    """Make who finds the node of the cluster at the URL that has ``key``."""
    settings = _many(options, _settings(options, options.timeout_secs))
    return Cluster(_places(options.url, REDIS_PORT), key, settings)


async def close_client(client: Any) -> None:
    """Close all connections of a client, those of the sentinels that it asks among them."""
    await client.aclose()
    if (asked := getattr(client.connection_pool, "sentinel_manager", None)) is not None:
        for sentinel in asked.sentinels:
            await sentinel.aclose()


def _settings(options: StateConfig, read_secs: float | None) -> dict[str, Any]:
    retry: Any = import_module("redis.asyncio.retry").Retry
    no_backoff: Any = import_module("redis.backoff").NoBackoff
    settings: dict[str, Any] = {
        "socket_timeout": read_secs,
        "socket_connect_timeout": options.timeout_secs,
        "socket_keepalive": True,
        "retry": retry(no_backoff(), 0),  # this process tries again itself, and goes on with its own view meanwhile
        "decode_responses": False,
        "client_name": "fd-router",
    }
    given = {"username": options.username, "password": options.password}
    given |= {name: getattr(options, option) for name, option in _TLS_FILES.items()}
    settings.update({name: value for name, value in given.items() if value})
    return settings


def _of_sentinel(options: StateConfig, settings: dict[str, Any]) -> Redis:
    """Make a client of whichever server the sentinels at the URL's hosts say is the master now."""
    settings = _many(options, settings)
    own = {name: value for name, value in settings.items() if name.startswith(("socket_", "ssl")) or name == "retry"}
    own["socket_timeout"] = options.timeout_secs  # no question to a sentinel waits for messages
    if options.sentinel_password:
        own["password"] = options.sentinel_password
    sentinel: Any = import_module("redis.asyncio.sentinel").Sentinel(
        _places(options.url, SENTINEL_PORT), sentinel_kwargs=own, **settings
    )
    client: Redis = sentinel.master_for(options.sentinel_master)
    return client


def _many(options: StateConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with what a URL of several hosts says of each: TLS, who asks, its query's settings."""
    parts = urlsplit(options.url)
    user, at, hosts = parts.netloc.rpartition("@")
    one = parts._replace(netloc=f"{user}{at}{hosts.partition(',')[0]}")
    told: dict[str, Any] = import_module("redis.asyncio.connection").parse_url(urlunsplit(one))
    own = {"host", "port", "connection_class"} | ({"db"} if options.cluster else set())  # a cluster has one database
    shared = {name: value for name, value in told.items() if name not in own}
    return {**settings, **shared, **({"ssl": True} if parts.scheme == "rediss" else {})}


def _places(url: str, port: int) -> Sequence[Place]:
    """Return the hosts of a URL, with their ports. Raises ValueError for one that can't be read."""
    found = []
    for text in urlsplit(url).netloc.rpartition("@")[2].split(","):
        parts = urlsplit(f"//{text}")
        if not parts.hostname:
            raise ValueError(f"{text!r} is no host and port")
        found.append((parts.hostname, parts.port or port))
    return found


def shown(url: str) -> str:
    """Return a URL without what is secret in it."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path, "", ""))
