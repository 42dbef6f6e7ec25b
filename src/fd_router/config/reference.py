"""Text about the configuration, made from the options: the reference page, and a configuration in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fd_router.config.loading import CONFIG_PATH_VARIABLE, OPTIONS, SECTIONS, Config, Declared
from fd_router.config.options import number_text

_INTRODUCTION: Final = """\
# Configuration

<!-- Made by `fd-router config-reference` from the options in `src/fd_router/config/sections.py`. Don't edit. -->

Nothing but a port is needed: `fd-router --port 30000`. Everything else has a default, and can be given in a
YAML file (`--config_path config.yaml`) or in the environment. When one option is given more than once, the
stronger source wins:

1. a flag: {flags};
2. an environment variable, `FD_ROUTER_<SECTION>_<KEY>`: `FD_ROUTER_SERVER_PORT=30000`
   (`{path_variable}` names the file);
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


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page's words in a language. What isn't translated stays English."""

    introduction: str = _INTRODUCTION
    columns: tuple[str, ...] = ("key", "default", "allowed", "environment", "meaning")
    none: str = "none"
    separator: str = msgspec.field(default=", or ", name="or")  # before the form beside the choices
    kinds: Mapping[str, str] = {}
    range: str = "{kind} from {low} to {high}{unit}"
    least: str = "{kind} of at least {low}{unit}"
    most: str = "{kind} of at most {high}{unit}"
    plain: str = "{kind} in{unit}"
    units: Mapping[str, str] = {}
    forms: Mapping[str, str] = {}
    sections: Mapping[str, str] = {}
    options: Mapping[str, str] = {}

    def allowed(self, option: Declared) -> str:
        """Say what an option takes."""
        facts = option.option
        form = self.forms.get(facts.form, facts.form)
        if facts.choices:
            choices = ", ".join(f"`{choice}`" for choice in facts.choices)
            return choices + (f"{self.separator}{form}" if form else "")
        if not self.kinds:
            return option.expected
        if form and facts.minimum is None and facts.maximum is None:
            return form
        return self._template(option).format(
            kind=form or self.kinds[option.kind.__name__],
            low=number_text(facts.minimum or 0),
            high=number_text(facts.maximum or 0),
            unit=f" {self.units.get(facts.unit, facts.unit)}" if facts.unit else "",
        )

    def _template(self, option: Declared) -> str:
        low, high = option.option.minimum is not None, option.option.maximum is not None
        return self.range if low and high else self.least if low else self.most if high else self.plain


def reference(words: Words | None = None) -> str:
    """Return the reference page of all options, as Markdown, in the language of ``words``; None: in English."""
    words = Words() if words is None else words
    flags = ", ".join(f"`{option.flag}`" for option in OPTIONS if option.option.flag)
    parts = [words.introduction.format(flags=flags, path_variable=CONFIG_PATH_VARIABLE)]
    for name, struct in SECTIONS.items():
        parts.append(f"## {name}\n\n{words.sections.get(name, struct.__doc__)}\n")
        parts.append(f"| {' | '.join(words.columns)} |\n|---|---|---|---|---|")
        parts.append("\n".join(_row(option, words) for option in OPTIONS if option.section == name) + "\n")
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


def _row(option: Declared, words: Words) -> str:
    marks = ("⁰" if option.option.zero_is_default else "") + ("ʳ" if option.option.live else "")
    default = words.none if option.key == "server.port" else f"`{_yaml(option.default)}`"
    meaning = words.options.get(option.key, option.option.help)
    cells = (f"`{_name(option)}`{marks}", default, words.allowed(option), f"`{option.environment}`", meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _name(option: Declared) -> str:
    return option.key.rpartition(".")[2]


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number_text(value)
    return msgspec.json.encode(value).decode()
