"""What the documentation promises to be complete is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fd_router.admission.keys import entry, hash_key, make_key
from fd_router.app.router import Router
from fd_router.config.loading import AccessConfig, Config, ServerConfig
from fd_router.telemetry.logging.factory import open_log

DOCS = Path(__file__).parents[1] / "docs"


async def test_every_metric_is_documented(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys:\n" + entry("team", hash_key(make_key())))
    config = Config(server=ServerConfig(port=1), access=AccessConfig(keys_path=str(keys)))
    router = Router(config, open_log(output="file", path=str(tmp_path / "log")))
    page = (DOCS / "observability.md").read_text()
    families = text_string_to_metric_families(router.runtime.telemetry.metrics.render().decode())
    names = [f"{family.name}_total" if family.type == "counter" else family.name for family in families]
    assert len(names) > 40
    missing = [name for name in names if f"`{name}`" not in page and not name.startswith(("process_", "python_"))]
    assert not missing


@pytest.mark.parametrize("index", [DOCS / "README.md", DOCS.parent / "README.md"])
def test_every_page_can_be_found(index: Path) -> None:
    text = index.read_text().partition("Documentation")[2]
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert not {name for name in pages if f"{name})" not in text}


@pytest.mark.parametrize("page", ["architecture.md", "extending.md"])
def test_every_file_that_is_named_is_there(page: str) -> None:
    text = (DOCS / page).read_text()
    sources = DOCS.parent / "src" / "fd_router"
    named = set(re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)[`,]", text))
    named -= {"app/x.py"}  # any of them
    assert len(named) > 3
    roots = (sources, DOCS.parent)
    assert not {name for name in named if not any((root / name).exists() for root in roots)}


def test_the_examples_of_extensions_are_there_and_run_by_tests() -> None:
    text = (DOCS / "extending.md").read_text()
    rows = re.findall(r"\(\.\./(examples/extend/\w+)\), `(test_\w+\.py)`", text)
    assert {Path(folder).name for folder, _ in rows} == {x.name for x in (DOCS.parent / "examples/extend").iterdir()}
    for folder, test in rows:
        assert any(Path(folder).name in found.read_text() for found in (DOCS.parent / "tests").rglob(test))


def shape(page: str) -> list[str]:
    """Return a page's outline: the level of each heading, the first texts in ``code`` of each row of its tables."""
    found = []
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("#"):
            found.append(line.partition(" ")[0])
        elif line.startswith("|"):
            found.append(f"{line.count(' | ')} {sorted(re.findall(r'`[^`]+`', line))[:1]}")
    return found


def test_both_languages_of_the_migration_page_have_the_same_outline() -> None:
    assert shape("migrating.md") == shape("migrating.zh.md")
    assert len(shape("migrating.md")) > 70
