"""``fd-router config-reference``: prints docs/configuration.md, in English or by a translation."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import yaml

from fd_router.config.reference import Words, reference
from fd_router.errors import ConfigError


@click.command("config-reference", hidden=True)
@click.option("--translation", type=click.Path(path_type=Path), help="YAML file with the page's words.")
def command(translation: Path | None) -> None:
    """Print docs/configuration.md."""
    click.echo(reference(_words(translation) if translation is not None else None), nl=False)


def _words(path: Path) -> Words:
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Words)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"--translation: {path}: {' '.join(str(error).split())}") from None
