"""The OpenAPI page has the router's own endpoints, all of them and no other, and its references lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fd_router.api.access import Group, group_of
from fd_router.app.router import Router
from fd_router.config.loading import Config, ServerConfig
from fd_router.instances.registration_keys import READERS
from fd_router.telemetry.logging.factory import open_log

PAGE = Path(__file__).parents[2] / "docs" / "openapi.yaml"
METHODS = {"get", "post", "put", "delete", "patch", "head", "options"}


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(PAGE.read_text())
    return read


async def routes(folder: Path) -> dict[str, set[str]]:
    router = Router(Config(server=ServerConfig(port=1)), open_log(output="file", path=str(folder / "log")))
    found = router.context.routes.items()
    return {re.sub(r"\+\}", "}", path): {method.lower() for method in methods} for path, methods in found}


async def test_every_route_and_no_other(page: dict[str, Any], tmp_path: Path) -> None:
    told = {path: METHODS & item.keys() for path, item in page["paths"].items()}
    assert told == await routes(tmp_path)


def test_what_needs_a_token_says_so(page: dict[str, Any]) -> None:
    for path, item in page["paths"].items():
        for method in METHODS & item.keys():
            operation = item[method]
            is_open = operation.get("security") == [{}]
            group = group_of(path.replace("{model}", "{model+}"))
            assert is_open is (group in {Group.OPEN, Group.PAGE} and path != "/dashboard/events"), path
            assert is_open or path == "/register" or "401" in operation["responses"], path
            assert operation["summary"]


def test_parameters_of_paths_are_declared(page: dict[str, Any]) -> None:
    for path, item in page["paths"].items():
        declared = [resolve(page, each)["name"] for each in item.get("parameters", [])]
        assert sorted(declared) == sorted(re.findall(r"\{(\w+)\}", path))


def test_references_lead_somewhere(page: dict[str, Any]) -> None:
    found = list(references(page))
    assert len(found) > 30
    for reference in found:
        resolve(page, {"$ref": reference})


def test_a_registration_has_keys_that_are_read(page: dict[str, Any]) -> None:
    assert set(page["components"]["schemas"]["Registration"]["properties"]) <= set(READERS)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolve(page: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    found: Any = page
    if "$ref" not in value:
        return value
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    assert isinstance(found, dict)
    return found
