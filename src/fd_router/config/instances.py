"""The options of what instances are, and where they come from."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fd_router.config.dotted_path import DOTTED_PATHS_PATTERN
from fd_router.config.options import Option


class InstancesConfig(msgspec.Struct, frozen=True):
    """What instances are, and what names them beside themselves and ``register.yaml``."""

    dialects: Annotated[
        str,
        Option(
            help="Dialects of engines that the router doesn't know: classes of yours, separated by commas. Instances "
            "name theirs by the key `dialect` of their registration. Beside them there are fastdeploy, vllm, sglang "
            "and openai.",
            pattern=DOTTED_PATHS_PATTERN,
            form="my_module:MyDialect, or several separated by commas",
        ),
    ] = ""
    detect_dialects: Annotated[
        str,
        Option(
            live=True,
            help="Whether an instance that comes up and tells no `dialect` is asked which engine it is: its "
            "`/metrics`, then paths that only one engine has. auto: those that `--instance` or a source of yours "
            "names; who registers, or stands in `register.yaml`, does so in FastDeploy's way. One that isn't asked, "
            "or isn't recognized, has fastdeploy.",
            choices=("auto", "always", "never"),
        ),
    ] = "auto"
    sources: Annotated[
        dict[str, Any],
        Option(
            help="Sources of instances beside registration and `register.yaml`: a class of yours each, "
            "`my_module:MySource`, with a mapping of its options, or a list of such mappings. Where two name the same "
            "instance, the first has it."
        ),
    ] = msgspec.field(default_factory=dict)
    api_key_path: Annotated[
        str,
        Option(
            help="File with the key that the router shows to instances, in `Authorization: Bearer`, with requests, "
            "probes and all else; the client's own Authorization doesn't get there then. A reload reads it anew. None: "
            "no key."
        ),
    ] = ""
    connections: Annotated[
        dict[str, Any],
        Option(
            help="TLS and key for some instances: an address, network, host name (with `*`), `model:NAME` or "
            "`label:NAME=TEXT`, each with a mapping of `tls`, `ca-path`, `name`, `verify`, `cert-path`, `key-path`, "
            "`api-key-path`. The first that fits an instance holds; what it doesn't say is as for all "
            "(`tls.upstream-…`, `instances.api-key-path`). A reload reads the files anew."
        ),
    ] = msgspec.field(default_factory=dict)
    plugin_folder: str = ""  # no option: where the configuration file lies, and perhaps a dialect or a source
