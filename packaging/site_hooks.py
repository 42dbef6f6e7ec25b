"""What `make site` does to the pages: links that lead out of docs/ become the paths that they name."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page."""
    folder = posixpath.dirname(page.file.src_uri)
    return _LINK.sub(lambda found: _inside(found, folder), markdown)


def _inside(found: re.Match[str], folder: str) -> str:
    text, target = found[1], found[2]
    if "://" in target or not posixpath.normpath(posixpath.join(folder, target)).startswith(".."):
        return found[0]
    path = posixpath.normpath(posixpath.join("docs", folder, target))
    name = text.strip("`")
    return f"`{path}`" if name.rstrip("/") in path else f"{text} (`{path}`)"
