"""Links lead somewhere: to files that are there, and to headings that they have. The site has them too."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "examples").rglob("*.md")]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`(?!\])", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: Path) -> list[str]:
    found = []
    for target in LINK.findall(without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and other.suffix == ".md" and anchor not in anchors(other)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`-c, d\n[x](none.md) [y](#a-b-c-d) [z](#no) [w](page.md#a-b-c-d) `[v](none)`\n[u](https://a/b)\n"
    )
    assert broken(page) == ["none.md", "#no"]


def hooks() -> Any:
    specification = importlib.util.spec_from_file_location("site_hooks", REPOSITORY / "packaging" / "site_hooks.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_links_that_lead_out_of_the_site_become_paths() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="tutorials/pd.md"))
    text = "[a](../scheduling.md#x) [README](../../README.md#y) [examples/x](../../examples/x) [b](https://a/b) [c](#d)"
    assert hooks().on_page_markdown(text, page) == (
        "[a](../scheduling.md#x) `README.md` `examples/x` [b](https://a/b) [c](#d)"
    )
    assert hooks().on_page_markdown("[here](../../LICENSE)", page) == "here (`LICENSE`)"
