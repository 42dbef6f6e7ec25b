"""Extras: what the documents and messages say of them is what pyproject.toml has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
PACKAGES = {package for packages in EXTRAS.values() for package in packages}

ROW = re.compile(r"^\| `([\w-]+)` \| .+ \| `pip install ('.+')` \|$", re.MULTILINE)
NAMED = re.compile(r"pip install ((?:'[^']+' ?)+)")


def test_the_table_has_each_extra_with_its_packages() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = page.partition("\n## Extras\n")[2].partition("\n## ")[0]
    assert {name: packages(text) for name, text in ROW.findall(section)} == EXTRAS


def packages(text: str) -> list[str]:
    return re.findall(r"'([^']+)'", text)


def test_whoever_says_what_to_install_names_what_works_without_a_package_index_that_has_the_router() -> None:
    said = {}
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.*"), *ROOT.glob("src/**/*.py")):
        if path.suffix in {".md", ".py", ".yaml"} and path.name != "CHANGELOG.md":
            text = re.sub(r'"\n\s*f?"', "", path.read_text("utf-8"))  # it may be written over several lines
            text = " ".join(text.split())
            said[path.name] = [name for found in NAMED.findall(text) for name in packages(found)]
            assert "fd-router[" not in text, path
    known = PACKAGES | {f".[{extra}]" for extra in EXTRAS} | {".[redis,otel]"}
    assert {path: unknown for path, names in said.items() if (unknown := {*names} - known)} == {}
    assert {name for names in said.values() for name in names} >= PACKAGES
