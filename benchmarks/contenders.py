"""The programs that are compared: how each is configured and started in front of the same two instances."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from processes import FD_ROUTER, free_port, write_config

OURS = "fd-router"
NGINX = "nginx"
NGINX_FRAME = """\
daemon off; worker_processes {processes}; pid {directory}/{name}.pid; error_log {directory}/{name}.err;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_timeout 1h; keepalive_requests 100000000;
  client_max_body_size 64m; client_body_buffer_size 1m; client_body_temp_path {directory}/{name}-body;
  proxy_temp_path {directory}/{name}-proxy; fastcgi_temp_path {directory}/{name}-fastcgi;
  uwsgi_temp_path {directory}/{name}-uwsgi; scgi_temp_path {directory}/{name}-scgi;
{body}
}}
"""
PROXY = """\
  upstream instances {{ least_conn; {servers} keepalive 512; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://instances; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}"""


@dataclass(frozen=True)
class Contender:
    """One program: ``command`` listens on ``port``. ``family`` is ``nginx``, ``rust`` or ``fd-router``."""

    name: str
    family: str
    port: int
    command: Sequence[str]


def nginx_command(directory: Path, name: str, body: str, processes: int = 1) -> list[str]:
    """Write a configuration with ``body`` in its http section and return the command that runs it."""
    path = directory / f"{name}.conf"
    path.write_text(NGINX_FRAME.format(directory=directory, name=name, body=body, processes=processes))
    return ["nginx", "-e", str(directory / f"{name}.err"), "-c", str(path)]


def contenders(
    directory: Path,
    instances: Sequence[int],
    policies: Sequence[str],
    rust_policy: str,
    peers: Path | None,
    *,
    pairs: bool = False,
) -> Iterator[Contender]:
    """Yield them all, in front of the instances at these ports: ours last, once for each of ``policies``.

    ``pairs``: ours sends each request to two of them, a prefill and a decode instance.
    """
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{each};" for each in instances)
    body = PROXY.format(servers=servers, port=port)
    if shutil.which("nginx"):
        yield Contender(NGINX, NGINX, port, nginx_command(directory, "proxy", body))
    if peers is not None and not pairs:
        yield from _rust_routers(peers, instances, rust_policy)
    for policy in policies:
        port = free_port()
        name = OURS if len(policies) == 1 else f"{OURS} {policy}"
        config = write_config(directory, port, instances, policy, pairs=pairs)
        yield Contender(name, OURS, port, [*FD_ROUTER, "--config_path", str(config)])


def _rust_routers(peers: Path, instances: Sequence[int], policy: str) -> Iterator[Contender]:
    starts = {
        "vllm-router": [str(peers / "vllm-router")],
        "sglang-router": [str(peers / "sglang-router"), "launch"],
        "smg": [str(peers / "python"), "-m", "smg", "launch"],
    }
    for name, start in starts.items():
        port = free_port()
        flags = ["--host", "127.0.0.1", "--port", str(port), "--policy", policy, "--log-level", "error"]
        flags += ["--prometheus-port", str(free_port())]
        flags += ["--worker-urls", *[f"http://127.0.0.1:{each}" for each in instances]]
        yield Contender(name, "rust", port, [*start, *flags])
