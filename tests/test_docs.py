"""What the documentation promises to be complete is complete."""

from __future__ import annotations

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
