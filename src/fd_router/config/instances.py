"""The options of what instances are: the engines that they run."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.dotted_path import DOTTED_PATHS_PATTERN
from fd_router.config.options import Option


class InstancesConfig(msgspec.Struct, frozen=True):
    """What instances are, whichever way they become known."""

    dialects: Annotated[
        str,
        Option(
            help="Dialects of engines that the router doesn't know: classes of yours, separated by commas. Instances "
            "name theirs by the key `dialect` of their registration. Beside them there are fastdeploy (who names "
            "none has it) and openai.",
            pattern=DOTTED_PATHS_PATTERN,
            form="my_module:MyDialect, or several separated by commas",
        ),
    ] = ""
    plugin_folder: str = ""  # no option: where the configuration file lies, and perhaps a dialect
