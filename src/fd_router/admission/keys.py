"""API keys as their file holds them: hashes, names and limits. The keys themselves are written down nowhere."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec
import yaml

from fd_router.config.options import did_you_mean
from fd_router.config.yaml_list import load_with_lines, place_of
from fd_router.config.yaml_text import yaml_text
from fd_router.errors import ConfigError
from fd_router.openai.precedence import NORMAL

KEY_BYTES = 32
"""Random bytes of a key. So many can't be guessed, so that one plain SHA-256 of them is as good as a slow hash."""

LEAST_CHARACTERS = 20
"""A shorter key could be found by trying: its hash needn't be kept."""

Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Limit = Annotated[int, msgspec.Meta(ge=0)]


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """One entry of the file. Limits of 0 are none."""

    name: Name  # stands in logs and metrics
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{64}\Z")]  # of the key's bytes, as hex digits
    models: tuple[str, ...] | None = None  # those it may ask for; None: all
    priority: str = NORMAL  # the highest that its requests get, and what they get unless they ask for less
    max_concurrent: Limit = 0
    requests_per_minute: Limit = 0
    tokens_per_minute: Limit = 0
    ttft_deadline_ms: Limit = 0  # for the first tokens of its requests, unless they name another deadline

    @property
    def digest(self) -> bytes:
        """The hash as bytes."""
        return bytes.fromhex(self.sha256)

    def __repr__(self) -> str:
        return f"<ApiKey {self.name}>"


def make_key() -> str:
    """Make a new key: ``fdr-`` and 43 letters, digits, ``-`` and ``_``."""
    return f"fdr-{secrets.token_urlsafe(KEY_BYTES)}"


def hash_key(key: str) -> str:
    """Return what stands in the file for ``key``. Raises ConfigError for one that is no key."""
    if len(key) < LEAST_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"this is no API key: at least {LEAST_CHARACTERS} printable ASCII characters without spaces are needed; "
            "make one with 'fd-router make-key NAME'"
        )
    return hashlib.sha256(key.encode()).hexdigest()


def entry(name: str, sha256: str, *, begins_file: bool = False) -> str:
    """Write the file's lines for a key. Raises ConfigError for a name that is none."""
    key = _convert({"name": name, "sha256": sha256}, "the new key")
    first = "keys:\n" if begins_file else ""
    return f"{first}  - name: {key.name}\n    sha256: {key.sha256}\n"


def is_new_file(stream: TextIO) -> bool:
    """Tell whether what is written to ``stream`` becomes the beginning of a file."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # it is no file of the system's
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def read_keys(path: Path, priorities: Collection[str]) -> tuple[ApiKey, ...]:
    """Read the file of keys. Raises ConfigError with a line for each problem; no line repeats a hash."""
    try:
        text = yaml_text(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: can't read the API keys: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return parse_keys(text, priorities, name=str(path))


def parse_keys(text: str, priorities: Collection[str], name: str = "keys.yaml") -> tuple[ApiKey, ...]:
    """Parse the text of such a file: ``keys:`` and a list. ``name`` is what the problems call it."""
    try:
        document, lines = load_with_lines(text, "keys")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # the message itself may quote the file
        raise ConfigError(f"{name}{f':{mark.line + 1}' if mark else ''}: not valid YAML") from None
    items = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(items, list):
        raise ConfigError(f"{name}: expected a key 'keys' with a list; an empty one ('keys: []') lets nobody in")
    keys: dict[str, ApiKey] = {}  # by their places
    problems: list[str] = []
    for index, item in enumerate(items):
        place = f"{place_of(name, lines, index)}: keys[{index}]"
        try:
            keys[place] = _checked(_convert(item, place), place, priorities)
        except ConfigError as error:
            problems += error.problems
    problems += _doubles(keys)
    if problems:
        raise ConfigError(*problems)
    return tuple(keys.values())


def _convert(item: object, place: str) -> ApiKey:
    if not isinstance(item, Mapping):
        raise ConfigError(f"{place}: expected a mapping with name and sha256")
    fields: dict[str, Any] = {str(field).replace("_", "-"): value for field, value in item.items()}
    known = ApiKey.__struct_encode_fields__
    problems = [f"{place}: {problem}" for field in fields for problem in _field_problems(field, fields[field], known)]
    if problems:
        raise ConfigError(*problems)
    try:
        return msgspec.convert(fields, ApiKey)
    except msgspec.ValidationError as error:  # one that is missing
        raise ConfigError(f"{place}: {_in_words(str(error))}") from None


def _field_problems(field: str, value: object, known: Collection[str]) -> list[str]:
    if field not in known:
        hint = did_you_mean(field, known) or f"; known are {', '.join(known)}"
        return [f"unknown field '{field[:40]}'{hint}"]
    alone = {"name": "x", "sha256": "0" * 64} | {field: value}  # beside what can't be wrong
    try:
        msgspec.convert(alone, ApiKey)
    except msgspec.ValidationError as error:
        return [_in_words(str(error))]
    return []


def _in_words(complaint: str) -> str:
    """Name the field first, and say what a pattern means."""
    what, _, path = complaint.partition(" - at `$")
    field = path.strip("`.").partition("[")[0]
    if "matching regex" in what:
        what = {
            "name": "up to 64 letters, digits, '.', '_' and '-' are needed",
            "sha256": "64 hex digits are needed, as 'fd-router hash-key' prints them; never the key itself",
        }[field]
    return f"{field}: {what}" if field else what


def _checked(key: ApiKey, place: str, priorities: Collection[str]) -> ApiKey:
    if key.priority not in priorities:
        raise ConfigError(f"{place}: priority: {key.priority[:40]!r} is not one of {', '.join(priorities)}")
    return key


def _doubles(keys: Mapping[str, ApiKey]) -> list[str]:
    problems = []
    names: set[str] = set()
    digests: dict[bytes, str] = {}
    for place, key in keys.items():
        if key.name in names:
            problems.append(f"{place}: name: another key is called '{key.name}' too")
        names.add(key.name)
        other = digests.setdefault(key.digest, key.name)
        if other != key.name:
            problems.append(f"{place}: sha256: '{other}' and '{key.name}' are the same key")
    return problems
