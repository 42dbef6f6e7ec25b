"""What can be said of the options of a Redis or Valkey server before it is asked anything."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from fd_router.config.state import StateConfig
from fd_router.errors import ConfigError
from fd_router.http.tls import load_authorities, load_chain

_TLS_ONLY = ("ca_file", "cert_file", "key_file")
_MANY_ONLY = "state.url: several hosts are the sentinels of one master (state.sentinel-master) or nodes of a cluster "


def require_usable(options: StateConfig) -> None:
    """Raise ConfigError for options that don't go together, and for files that can't be used."""
    if not options.url:
        return
    try:
        scheme = urlsplit(options.url).scheme
    except ValueError:  # it may have a password in it, so it isn't repeated
        raise ConfigError(
            "state.url: what is given has no host that can be read: an address in brackets, say"
        ) from None
    is_many = "," in options.url.rpartition("@")[2]
    if options.sentinel_master and options.cluster:
        raise ConfigError("state.cluster: sentinels don't watch a cluster; leave out state.sentinel-master, or this")
    if scheme == "unix" and (options.sentinel_master or options.cluster):
        option = "sentinel-master" if options.sentinel_master else "cluster"
        raise ConfigError(f"state.{option}: needs state.url to begin with redis:// or rediss://, not unix://")
    if is_many and scheme != "unix" and not (options.sentinel_master or options.cluster):
        raise ConfigError(f"{_MANY_ONLY}(state.cluster); one server has one host")
    if options.sentinel_password and not options.sentinel_master:
        raise ConfigError("state.sentinel-password: without state.sentinel-master no sentinel is asked")
    _require_tls_files(options, scheme)


def _require_tls_files(options: StateConfig, scheme: str) -> None:
    given = [name for name in _TLS_ONLY if getattr(options, name)]
    if not given:
        return
    if scheme != "rediss":
        option = given[0].replace("_", "-")
        raise ConfigError(f"state.{option}: is for TLS, but state.url begins with {scheme}://; write rediss://")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.ca_file:
        load_authorities(context, "state.ca-file", options.ca_file)
    if options.cert_file:
        load_chain(context, "state.cert-file", "state.key-file", options.cert_file, options.key_file)
    elif options.key_file:
        raise ConfigError("state.key-file: a key without a certificate; give state.cert-file too")
