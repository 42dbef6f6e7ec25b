"""``register.yaml``: instances that are kept, and probed, whether they register themselves or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from fd_router.engines.dialects import Dialects
from fd_router.instances.registration import Registration, RegistrationError, parse_registration, require_served
from fd_router.instances.registry import Registry
from fd_router.telemetry.contracts import Log


class RegisterFile(msgspec.Struct, frozen=True):
    """What a file holds: the usable entries by their index, and one line for each problem."""

    entries: dict[int, Registration] = {}
    problems: tuple[str, ...] = ()


def read_register_file(path: Path, dialects: Dialects, *, splitwise: bool) -> RegisterFile:
    """Read the file at ``path``. Never raises: what can't be used is told in ``problems``, the rest in ``entries``."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return RegisterFile({}, (f"Failed to read YAML file {path}: not UTF-8 text (byte {error.start})",))
    except OSError as error:
        return RegisterFile({}, (f"Failed to read YAML file {path}: {(error.strerror or str(error)).lower()}",))
    return parse_register_file(text, dialects, splitwise=splitwise, name=str(path))


def parse_register_file(text: str, dialects: Dialects, *, splitwise: bool, name: str = "register.yaml") -> RegisterFile:
    """Parse the text of such a file; ``name`` is what the problems call it."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return RegisterFile({}, (f"Failed to unmarshal YAML file {name}: {' '.join(str(error).split())}",))
    items = document.get("instances") if isinstance(document, Mapping) else document
    if items is None:
        return RegisterFile({}, (f"No instances found in config file {name}",))
    if not isinstance(items, list) or items is document:
        return RegisterFile({}, (f"Failed to unmarshal YAML file {name}: expected a key 'instances' with a list",))
    return _parse_entries(items, dialects, splitwise=splitwise)


def register_static(path: Path, registry: Registry, *, splitwise: bool, log: Log) -> tuple[str, ...]:
    """Register the file's instances as kept ones; log each problem, and return them all."""
    file = read_register_file(path, registry.dialects, splitwise=splitwise)
    for problem in file.problems:
        log.error(problem)
    for index, registration in file.entries.items():
        registry.register(registration, kept=True, index=index)
    return file.problems


def replace_static(file: RegisterFile, registry: Registry, reason: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make ``file`` the list of kept instances. Returns the keys that are new, and those that were removed.

    Those that the file doesn't name any more are removed; requests that run there go on.
    """
    before = {instance.key for instance in registry.kept()}
    after = {registration.key for registration in file.entries.values()}
    for key in sorted(before - after):
        registry.remove(key, reason)
    for index, registration in file.entries.items():
        registry.register(registration, kept=True, index=index)
    return tuple(sorted(after - before)), tuple(sorted(before - after))


def _parse_entries(items: list[object], dialects: Dialects, *, splitwise: bool) -> RegisterFile:
    entries: dict[int, Registration] = {}
    problems: list[str] = []
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        try:
            registration = _parse_entry(item, dialects, splitwise=splitwise)
        except RegistrationError as error:
            problems.append(f"Failed to register instance from index {index}: {error.message}")
            continue
        first = seen.setdefault(registration.key, index)
        if first != index:
            same = f"{registration.url} is at index {first} already"
            problems.append(f"Failed to register instance from index {index}: {same}")
        else:
            entries[index] = registration
    return RegisterFile(entries, tuple(problems))


def _parse_entry(item: object, dialects: Dialects, *, splitwise: bool) -> Registration:
    if not isinstance(item, Mapping):
        raise RegistrationError("expected a mapping with role, host_ip and port")
    registration = parse_registration(item)
    require_served(registration, dialects, splitwise=splitwise)
    return registration
