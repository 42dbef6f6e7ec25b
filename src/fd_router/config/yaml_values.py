"""The values of a YAML document, and one kind of error for those that can't be made."""

from __future__ import annotations

from typing import Any, Protocol

import yaml


class Constructor(Protocol):
    """PyYAML's maker of values; its loaders are such."""

    def construct_document(self, node: yaml.Node, /) -> Any:
        """Return the value of a document."""


def constructed(constructor: Constructor, node: yaml.Node) -> Any:
    """Return the value of a document. Raises yaml.YAMLError, ValueError, RecursionError.

    Of a text that isn't what its tag says (``!!timestamp x``, ``!!bool x``) PyYAML raises whatever it met.
    """
    try:
        return constructor.construct_document(node)
    except (AttributeError, LookupError, TypeError):
        raise yaml.YAMLError("a value isn't of the type that its tag says") from None
