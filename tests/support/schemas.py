"""What Kubernetes and Compose take, by their own schemas (``tests/fixtures``)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

DRAFT = "http://json-schema.org/draft-07/schema#"
FIXTURES = Path(__file__).parents[1] / "fixtures"


@cache
def _kubernetes() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FIXTURES / "kubernetes" / "schemas.json").read_text())
    return read


@cache
def _validator(kind: str) -> Any:
    """Return what takes an object of ``kind`` ("apps/v1 Deployment"), or raises JsonSchemaException."""
    known = _kubernetes()
    if kind not in known["kinds"]:
        raise ValueError(f"no schema for {kind}: {', '.join(known['kinds'])}")
    reference = f"#/definitions/{known['kinds'][kind]}"
    return fastjsonschema.compile({"$schema": DRAFT, "$ref": reference, "definitions": known["definitions"]})


def check_kubernetes(manifest: dict[str, Any]) -> None:
    """Raise JsonSchemaException when Kubernetes, told to be strict, wouldn't take ``manifest``."""
    _validator(f"{manifest['apiVersion']} {manifest['kind']}")(manifest)


def check_compose(project: dict[str, Any]) -> None:
    """Raise JsonSchemaException when Compose wouldn't take ``project``."""
    schema = json.loads((FIXTURES / "compose" / "schema.json").read_text())
    fastjsonschema.compile({"$schema": DRAFT, **schema})(project)
