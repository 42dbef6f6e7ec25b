"""The options of who may do what, and of what waits when all instances are busy. Declared as in ``config.sections``."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.options import Option

TOKEN_PATTERN = r"([!-~]{16,})?"  # noqa: S105  (no secret: what one looks like)
TOKEN_FORM = "at least 16 printable ASCII characters without spaces"  # noqa: S105
_NEVER_A_FLAG = "Best given in the environment, which nobody else can read."


class AccessConfig(msgspec.Struct, frozen=True):
    """Who may do what. Without any of these everybody may do everything, as with FastDeploy's program."""

    keys_path: Annotated[
        str, Option(help="YAML file with the API keys (hashed) for inference. Without one, no key is needed.")
    ] = ""
    keys_check_interval_secs: Annotated[
        float, Option(help="How often the file of API keys is looked at for changes. 0: never.", unit="s", minimum=0)
    ] = 5.0
    forward_authorization: Annotated[
        str,
        Option(
            help="Whether instances get the client's Authorization header; auto: unless API keys are configured, "
            "which are the router's own secrets.",
            choices=("auto", "always", "never"),
        ),
    ] = "auto"

    admin_token: Annotated[
        str,
        Option(
            help=f"Token for the endpoints that change the fleet or reveal it. {_NEVER_A_FLAG}",
            pattern=TOKEN_PATTERN,
            form=TOKEN_FORM,
            secret=True,
        ),
    ] = ""
    admin_token_path: Annotated[str, Option(help="File with that token.")] = ""
    register_token: Annotated[
        str,
        Option(
            help=f"Token for /register and /decode_instances. {_NEVER_A_FLAG}",
            pattern=TOKEN_PATTERN,
            form=TOKEN_FORM,
            secret=True,
        ),
    ] = ""
    register_token_path: Annotated[str, Option(help="File with that token.")] = ""
    register_networks: Annotated[
        str,
        Option(
            help="Networks of the instances: who isn't in one can't register, nor be registered. None: all may. "
            "Example: 10.0.0.0/8, fd00::/8"
        ),
    ] = ""
    control_port: Annotated[
        int,
        Option(
            help="Port for the endpoints of instances and administrators; the main port then has only inference and "
            "/health. 0: all are at the main port.",
            minimum=0,
            maximum=65535,
        ),
    ] = 0
    control_host: Annotated[str, Option(help="Address of the control port; 0.0.0.0: every one, IPv6 too.")] = (
        "127.0.0.1"
    )
    protect_metrics: Annotated[bool, Option(help="Ask for the admin token at /metrics too.")] = False
    trusted_proxies: Annotated[
        str,
        Option(
            help="Networks of proxies in front of the router: their X-Forwarded-For and -Proto are believed, "
            "for the log and fairness, never for what a client may do. None: nobody's are."
        ),
    ] = "127.0.0.0/8, ::1"
    cors_origins: Annotated[
        str,
        Option(
            help="Origins whose pages may use the inference paths from a browser (CORS): * for all of them, as engines "
            "have it, or a list such as https://chat.example, http://localhost:3000. None: instances say it.",
            pattern=r"(\*|null|[a-z][a-z0-9+.-]*://[!-+.-~-]+)?([ ,]+(null|[a-z][a-z0-9+.-]*://[!-+.-~-]+))*",
            form="* or a list of origins such as https://chat.example:8443",
        ),
    ] = "*"

    def __repr__(self) -> str:
        return "<AccessConfig>"  # what it holds may be secret


class AdmissionConfig(msgspec.Struct, frozen=True):
    """What waits, and in which order, when every instance has as many requests as it may have at once."""

    max_queued: Annotated[
        int,
        Option(
            live=True,
            help="Requests of each priority that may wait; more are refused with 429, first those of who has most that "
            "wait. 0: none waits.",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = 1000
    queue_timeout_secs: Annotated[
        float,
        Option(live=True, help="How long a request may wait; then it is refused with 503.", unit="s", minimum=0.001),
    ] = 30.0
    refuse_late: Annotated[
        bool,
        Option(
            live=True,
            help="ttft_aware: refuse a request at once (503) whose first token is predicted to come after its deadline "
            "(x-ttft-deadline-ms, or its key's); else it is served when nobody suffers.",
        ),
    ] = False
    priority_header: Annotated[
        str,
        Option(
            help="Header in which clients name a priority. Where API keys are needed, never one above the key's.",
            pattern=r"[A-Za-z0-9-]+",
            form="the name of a header",
        ),
    ] = "x-priority"
    priorities: Annotated[
        str,
        Option(
            help="Names of priorities, the highest first, and their shares of what becomes free while others wait.",
            pattern=r"[a-z][a-z0-9_-]*=[1-9][0-9]{0,5}([ ,]+[a-z][a-z0-9_-]*=[1-9][0-9]{0,5})*",
            form="a list of names with weights, one of them normal: high=16 normal=4 low=1",
        ),
    ] = "high=16 normal=4 low=1"
