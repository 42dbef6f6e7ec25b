"""A YAML file that is a list, or has one under a key: its document, and the line in which each item begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from fd_router.config.yaml_values import constructed

MOST_NESTED = 100
"""Levels; the C code that puts a deeper document together would end the process when its stack is full."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both are safe; the one in C is ten times as fast


def load_with_lines(text: str, key: str) -> tuple[Any, Sequence[int]]:
    """Return the first document, and the lines of the items under ``key``, or of its own when it is the list.

    Raises what YAML raises: yaml.YAMLError, ValueError, RecursionError.
    """
    _refuse_deep(text)
    loader = _LOADER(text)
    try:
        node = loader.get_node() if loader.check_node() else None  # the first document, as Go's YAML package does
        if node is None:
            return None, ()
        document, items = constructed(loader, node), _items(node, key)
        lines = [item.start_mark.line + 1 for item in items]
        while items:  # one by one: ten thousand that are freed in one go hold all threads up for 30 ms
            items.pop()
        return document, lines
    finally:
        loader.dispose()


def _refuse_deep(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_NESTED:
            raise RecursionError(f"nested deeper than {MOST_NESTED} levels")


def place_of(name: str, lines: Sequence[int], index: int) -> str:
    """Say where the item at ``index`` of the file called ``name`` stands: ``keys.yaml:3``."""
    return f"{name}:{lines[index]}" if index < len(lines) else name


def _items(node: yaml.Node, key: str) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        node = next((value for name, value in node.value if name.value == key), node)
    return node.value if isinstance(node, yaml.SequenceNode) else []
