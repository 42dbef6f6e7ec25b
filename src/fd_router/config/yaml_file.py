"""A settings file as YAML, with the line of everything in it. Knows nothing of the options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from yaml.constructor import SafeConstructor

from fd_router.config.yaml_text import yaml_text
from fd_router.config.yaml_values import constructed
from fd_router.errors import ConfigError

_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"
_LEVELS: Final = 3
"""Of a mapping that is an option's value, that have lines of their own: an alias may lead back to where it stands."""

Pair = tuple[yaml.Node, yaml.Node]


class Entry(msgspec.Struct, frozen=True):
    """One ``key: value`` of a section. ``text`` is the value as it is written, None for nothing (``key:``, null).

    A mapping's is its JSON; a value within it that JSON can't hold is noted as a problem of the document.
    """

    key: str
    line: int
    text: str | None = None
    nested: bool = False  # a list or mapping stands where one value should
    lines: Mapping[str, int] = {}  # of what is within a mapping, by its path: "engines.port"


class Section(msgspec.Struct, frozen=True):
    """One key of the top level. ``text`` is set when a single value stands where a mapping should."""

    name: str
    line: int
    entries: tuple[Entry, ...] = ()
    text: str | None = None
    nested: bool = False  # a list stands where a mapping should


class Document(msgspec.Struct, frozen=True):
    """A settings file: its sections, and what is wrong with it as YAML (lines that name file and line)."""

    sections: tuple[Section, ...]
    problems: tuple[str, ...]


def read_sections(path: str) -> Document:
    """Read a settings file. Raises ConfigError, with one line, when it can't be read or isn't YAML."""
    root = _compose(path)
    if root is None or root.tag == _NULL:
        return Document((), ())
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{_place(path, root)}: the top level is not a mapping of sections (server:, scheduler:, …)")
    problems: list[str] = []
    sections = tuple(_section(path, key, value, problems) for key, value in _pairs(path, root, problems))
    return Document(sections, tuple(problems))


def _compose(path: str) -> yaml.Node | None:
    """Parse the first document of the file, as Go's YAML package does."""
    try:
        text = yaml_text(Path(path).read_bytes())
        loader = yaml.SafeLoader(text)
        node: yaml.Node | None = loader.get_node() if loader.check_node() else None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"Failed to load config: failed to read config file: {path}: {reason}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_problem(path, error)) from None
    return node


def _yaml_problem(path: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        reason = getattr(error, "problem", None) or "not YAML"
        return f"{path}:{mark.line + 1}:{mark.column + 1}: not valid YAML: {reason}"
    return f"{path}: not valid YAML: {' '.join(str(error).split())}"


def _section(path: str, name: yaml.Node, value: yaml.Node, problems: list[str]) -> Section:
    line = name.start_mark.line + 1
    if isinstance(value, yaml.MappingNode):
        entries = tuple(_entry(path, key, item, problems) for key, item in _pairs(path, value, problems))
        return Section(_key(name), line, entries)
    return Section(_key(name), line, (), _text(value), not isinstance(value, yaml.ScalarNode))


def _entry(path: str, key: yaml.Node, value: yaml.Node, problems: list[str]) -> Entry:
    nested = not isinstance(value, yaml.ScalarNode)
    text = _json(path, value, problems) if isinstance(value, yaml.MappingNode) else _text(value)
    return Entry(_key(key), key.start_mark.line + 1, text, nested, dict(_lines_within(value)))


def _lines_within(node: yaml.Node, path: str = "", levels: int = _LEVELS) -> Iterator[tuple[str, int]]:
    if levels and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = f"{path}.{key.value}" if path else str(key.value)
            yield place, key.start_mark.line + 1
            yield from _lines_within(value, place, levels - 1)


def _json(path: str, node: yaml.MappingNode, problems: list[str]) -> str:
    try:
        value: Any = constructed(SafeConstructor(), node)
        return msgspec.json.encode(value).decode()
    except yaml.YAMLError as error:
        problems.append(_yaml_problem(path, error))
    except (TypeError, ValueError, RecursionError) as error:
        problems.append(f"{_place(path, node)}: not a plain mapping: {error}")
    return "{}"


def _pairs(path: str, node: yaml.MappingNode, problems: list[str]) -> Iterator[Pair]:
    """Give the pairs of a mapping, those merged with ``<<`` last and only where not overridden. Notes duplicates."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        if key.tag == _MERGE:
            continue
        name = _key(key)
        if name in seen:
            problems.append(f"{_place(path, key)}: the key '{name}' stands here again, first in line {seen[name]}")
            continue
        seen[name] = key.start_mark.line + 1
        yield key, value
    for key, value in _merged(node, {id(node)}):
        if _key(key) not in seen:
            seen[_key(key)] = key.start_mark.line + 1
            yield key, value


def _merged(node: yaml.MappingNode, met: set[int]) -> Iterator[Pair]:
    """Give the pairs that a mapping merges, each mapping's own before those that it merges itself.

    ``met``: the mappings so far, each of which is looked at once: one may lead back to itself.
    """
    for key, value in node.value:
        if key.tag != _MERGE:
            continue
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(source, yaml.MappingNode) and id(source) not in met:
                met.add(id(source))
                yield from (pair for pair in source.value if pair[0].tag != _MERGE)
                yield from _merged(source, met)


def _key(node: yaml.Node) -> str:
    """Return a key's text in kebab-case, for ``waiting_weight`` and ``waiting-weight`` are the same option."""
    return str(node.value).replace("_", "-") if isinstance(node, yaml.ScalarNode) else "(not a name)"


def _text(node: yaml.Node) -> str | None:
    return None if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL else str(node.value)


def _place(path: str, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"
