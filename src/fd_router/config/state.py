"""The options of what several routers share."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.options import Option


class StateConfig(msgspec.Struct, frozen=True):
    """The server over which several routers of one fleet know of each other."""

    url: Annotated[
        str,
        Option(
            help="The Redis or Valkey server by which routers of one fleet keep in step "
            "([replicas.md](replicas.md)): `redis://10.0.0.9:6379`, `rediss://` with TLS, `unix:///run/redis.sock`. "
            "Of sentinels and of a cluster's nodes several, by commas. None: this router knows of itself alone. "
            "Needs one more package: pip install 'redis[hiredis]>=5.1'.",
            pattern=r"((redis|rediss)://[^\s]+|unix:///?[^\s]+)?",
            form="a URL beginning with redis://, rediss:// or unix://",
            secret=True,
        ),
    ] = ""
    username: Annotated[str, Option(help="The user at the server, where it knows several.")] = ""
    password: Annotated[
        str,
        Option(help="The password at the server; better in the environment, as FD_ROUTER_STATE_PASSWORD.", secret=True),
    ] = ""
    ca_file: Annotated[
        str, Option(help="Certificates that the server's is checked with (rediss://). None: the system's.")
    ] = ""
    cert_file: Annotated[
        str,
        Option(
            help="PEM file with the certificate that the router shows to the server (rediss://), where it asks for one."
        ),
    ] = ""
    key_file: Annotated[str, Option(help="PEM file with that certificate's private key. None: it is in cert-file.")] = (
        ""
    )
    sentinel_master: Annotated[
        str,
        Option(
            help="The name of the master that the sentinels at `url` know (`redis://host1:26379,host2:26379`). None: "
            "`url` is the server's own."
        ),
    ] = ""
    sentinel_password: Annotated[
        str,
        Option(
            help="The password at the sentinels, where they want one: `password` is the master's. Better in the "
            "environment, as FD_ROUTER_STATE_SENTINEL_PASSWORD.",
            secret=True,
        ),
    ] = ""
    cluster: Annotated[bool, Option(help="Whether `url` names nodes of a cluster.")] = False
    key_prefix: Annotated[
        str,
        Option(
            help="What all keys at the server begin with: routers with the same one are a set.",
            pattern=r"[A-Za-z0-9._:-]{1,64}",
            form="letters, digits, and . _ : -",
        ),
    ] = "fd-router"
    interval_ms: Annotated[
        float,
        Option(
            help="How often what has changed is told to the others; after a quiet moment its first may wait for three "
            "times as long.",
            unit="ms",
            minimum=1,
            maximum=1000,
        ),
    ] = 20.0
    timeout_secs: Annotated[
        float,
        Option(
            help="How long the server may take to answer before it is taken to be down. No request waits for that.",
            unit="s",
            minimum=0.05,
        ),
    ] = 1.0
