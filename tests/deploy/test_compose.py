"""The Compose files: what Compose takes, and what they name is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fastjsonschema import JsonSchemaException

from fd_router.config.loading import load
from tests.support.schemas import check_compose

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "compose.yaml", ROOT / "deploy" / "compose.yaml")


def services(path: Path = FILES[0]) -> dict[str, dict[str, Any]]:
    read: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["services"]
    return read


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_compose_takes_it_and_mounts_what_is_there(path: Path) -> None:
    check_compose(yaml.safe_load(path.read_text()))
    for service in services(path).values():
        assert set(service.get("depends_on", [])) <= services(path).keys()
        for volume in service.get("volumes", []):
            assert (path.parent / volume.partition(":")[0]).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_a_key_that_there_is_not_would_be_noticed() -> None:
    project = yaml.safe_load(FILES[0].read_text())
    project["services"]["state"]["read-only"] = True
    with pytest.raises(JsonSchemaException, match="read-only"):
        check_compose(project)


def test_two_routers_share_what_they_know() -> None:
    routers = {name: service for name, service in services().items() if name.startswith("router-")}
    assert len(routers) == 2
    for service in routers.values():
        loaded = load(None, {"server.port": "30000"}, service["environment"])
        assert loaded.warnings == ()
        host, _, port = loaded.config.state.url.removeprefix("redis://").partition(":")
        assert (host in services(), port) == (True, "6379")
        assert int(service["stop_grace_period"].removesuffix("s")) > loaded.config.server.drain_timeout_secs
    assert len({service["ports"][0] for service in routers.values()}) == 2


def test_three_mocks_register_with_the_name_by_which_others_reach_them() -> None:
    mocks = {name: service for name, service in services().items() if name.startswith("mock-")}
    assert len(mocks) == 3
    for name, service in mocks.items():
        program, *flags = service["command"]
        given = dict(zip(flags[::2], flags[1::2], strict=True))
        assert (program, given["--host"], given["--router"]) == ("mock", name, "router-1:30000")


def test_what_is_ours_may_write_nothing_and_gain_nothing() -> None:
    for name, service in services().items():
        if service["image"].startswith(("fd-router", "valkey")):
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
            assert service["security_opt"] == ["no-new-privileges:true"]


def test_prometheus_scrapes_both_routers() -> None:
    (given,) = services()["prometheus"]["command"]
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / Path(given).name).read_text())
    (scraped,) = config["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": ["router-1:30000", "router-2:30000"]}]
