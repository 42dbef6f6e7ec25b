"""Text about the configuration, made from the options: the reference page, and a configuration in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fd_router.config.loading import CONFIG_PATH_VARIABLE, OPTIONS, SECTIONS, Config, Declared
from fd_router.config.options import number_text

_INTRODUCTION: Final = f"""\
# Configuration

<!-- Made by `fd-router config-reference` from the options in `src/fd_router/config/sections.py`. Don't edit. -->

Nothing but a port is needed: `fd-router --port 30000`. Everything else has a default, and can be given in a
YAML file (`--config_path config.yaml`) or in the environment. When one option is given more than once, the
stronger source wins:

1. a flag: {{flags}};
2. an environment variable, `FD_ROUTER_<SECTION>_<KEY>`: `FD_ROUTER_SERVER_PORT=30000`
   (`{CONFIG_PATH_VARIABLE}` names the file);
3. the file;
4. the default.

`fd-router check-config --config_path config.yaml` says everything that is wrong with a configuration, and
exits with 1 if anything is; with `--show` it prints the configuration in force and where each value comes from.

How values are read:

* A file is a mapping of sections. Keys are written as below, or with underscores (`waiting_weight`).
* Numbers and truth values may be quoted: `port: "8080"` and `port: 8080` are the same.
* An empty value (`port:`, `""`) is as good as none.
* **0 means the default** for the options marked ⁰, as in FastDeploy's Go program.
* An unknown key is ignored with a warning that names the nearest one. A wrong value is an error; all errors are
  reported at once, with file, line, key, value, and what is allowed. A wrong value that a stronger source
  overrides is only a warning.
* A reload (`SIGHUP`, `POST /admin/reload`) puts new values of the options marked ʳ in force; others need a restart.
* Relative paths are relative to the working directory.
"""


def reference() -> str:
    """Return the reference page of all options, as Markdown."""
    flags = ", ".join(f"`{option.flag}`" for option in OPTIONS if option.option.flag)
    parts = [_INTRODUCTION.format(flags=flags)]
    for name, struct in SECTIONS.items():
        parts.append(f"## {name}\n\n{struct.__doc__}\n")
        parts.append("| key | default | allowed | environment | meaning |\n|---|---|---|---|---|")
        parts.append("\n".join(_row(option) for option in OPTIONS if option.section == name) + "\n")
    return "\n".join(parts)


def in_force(config: Config, origins: Mapping[str, str]) -> str:
    """Write ``config`` as the YAML file that would give it, with the origin of each value that isn't a default."""
    lines = []
    for name in SECTIONS:
        lines.append(f"{name}:")
        section = getattr(config, name)
        for option in OPTIONS:
            if option.section == name:
                value = getattr(section, option.attribute)
                written = f"  {_name(option)}: {_yaml('(secret)' if value and option.option.secret else value)}"
                lines.append(f"{written}  # {origins[option.key]}" if option.key in origins else written)
    return "\n".join(lines) + "\n"


def _row(option: Declared) -> str:
    marks = ("⁰" if option.option.zero_is_default else "") + ("ʳ" if option.option.live else "")
    default = "none" if option.key == "server.port" else f"`{_yaml(option.default)}`"
    allowed = option.expected
    if option.option.choices:
        allowed = ", ".join(f"`{choice}`" for choice in option.option.choices)
        allowed += f", or {option.option.form}" if option.option.form else ""
    cells = (f"`{_name(option)}`{marks}", default, allowed, f"`{option.environment}`", option.option.help)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _name(option: Declared) -> str:
    return option.key.rpartition(".")[2]


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number_text(value)
    return msgspec.json.encode(value).decode()
