"""The client of a Redis or Valkey server: from options to one that speaks to a server, a sentinel's or a cluster."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from fd_router.config.state import StateConfig
from fd_router.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import Redis

MISSING = "state.url needs the package redis: pip install 'redis[hiredis]', or install fd-router[redis]"


def open_client(options: StateConfig, *, read_secs: float) -> Redis:
    """Make a client, which connects when it is first used. ``read_secs``: how long an answer may take.

    Raises ConfigError for a URL that names no server, and where the package is missing.
    """
    try:
        redis = import_module("redis.asyncio")
        retry: Any = import_module("redis.asyncio.retry").Retry
        no_backoff: Any = import_module("redis.backoff").NoBackoff
    except ImportError:
        raise ConfigError(MISSING) from None
    settings: dict[str, Any] = {
        "socket_timeout": read_secs,
        "socket_connect_timeout": options.timeout_secs,
        "socket_keepalive": True,
        "retry": retry(no_backoff(), 0),  # this process tries again itself, and goes on with its own view meanwhile
        "decode_responses": False,
        "client_name": "fd-router",
    }
    if options.password:
        settings["password"] = options.password
    if options.username:
        settings["username"] = options.username
    try:
        return _open(redis, options, settings)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"state.url: {shown(options.url)!r} names no server: {error}") from None


def _open(redis: Any, options: StateConfig, settings: dict[str, Any]) -> Redis:
    if options.ca_file:
        settings["ssl_ca_certs"] = options.ca_file
    client: Redis
    if options.sentinel_master:
        client = _of_sentinel(options, settings)
    elif options.cluster:
        client = redis.RedisCluster.from_url(options.url, **settings)
    else:
        client = redis.Redis.from_url(options.url, **settings)
    return client


def _of_sentinel(options: StateConfig, settings: dict[str, Any]) -> Redis:
    """Make a client of whichever server the sentinels at the URL's hosts say is the master now."""
    parts = urlsplit(options.url)
    netloc = parts.netloc.rpartition("@")[2]
    sentinels = [_host_and_port(one) for one in netloc.split(",")]
    if parts.password:
        settings.setdefault("password", parts.password)
    if parts.username:
        settings.setdefault("username", parts.username)
    if number := parts.path.strip("/"):
        settings["db"] = int(number)
    if parts.scheme == "rediss":
        settings["ssl"] = True
    else:
        settings.pop("ssl_ca_certs", None)
    own = {name: settings[name] for name in ("socket_timeout", "socket_connect_timeout", "retry")}
    sentinel_class = import_module("redis.asyncio.sentinel").Sentinel
    sentinel: Any = sentinel_class(sentinels, sentinel_kwargs=own, **settings)
    client: Redis = sentinel.master_for(options.sentinel_master)
    return client


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "26379")
    return host.strip("[]"), int(port)


def shown(url: str) -> str:
    """Return a URL without what is secret in it."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path, "", ""))
