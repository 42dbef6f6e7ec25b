"""``register.yaml``: a list of instances that are probed and never dropped, whether they register themselves or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import yaml

from fd_router.config.yaml_list import load_with_lines, place_of
from fd_router.config.yaml_text import yaml_text
from fd_router.errors import ConfigError
from fd_router.instances.registration import Registration, faults_of, parse_registration
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.source import REGISTER_YAML
from fd_router.instances.sources.members import Accept, Diff, SourceMembers
from fd_router.telemetry.contracts import Log
from fd_router.threads import in_thread

READ_SECS = 60.0
"""How long the file may take to be read at the start: it may lie on a network mount that is away."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong: ``text`` as FastDeploy's log has it, and where in the file that is."""

    text: str
    place: str = ""  # "register.yaml:3"; "" where the text names the file

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class RegisterFile(msgspec.Struct, frozen=True):
    """What a file holds: the usable entries by their index, and all problems."""

    entries: dict[int, Registration] = {}
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()  # what is worth a line, but no problem


def read_register_file(path: Path, accept: Accept) -> RegisterFile:
    """Read the file at ``path``. Never raises: what can't be used is told in ``problems``, the rest in ``entries``."""
    try:
        text = yaml_text(path.read_bytes())
    except UnicodeDecodeError as error:
        return _unusable(f"Failed to read YAML file {path}: not UTF-8 text (byte {error.start})")
    except OSError as error:
        return _unusable(f"Failed to read YAML file {path}: {(error.strerror or str(error)).lower()}")
    return parse_register_file(text, accept, name=str(path))


def parse_register_file(text: str, accept: Accept, *, name: str = "register.yaml") -> RegisterFile:
    """Parse the text of such a file; ``name`` is what the problems call it."""
    try:
        document, lines = load_with_lines(text, "instances")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return _unusable(f"Failed to unmarshal YAML file {name}: {' '.join(str(error).split())}")
    items = document.get("instances") if isinstance(document, Mapping) else document
    if items is None:
        return _unusable(f"No instances found in config file {name}")
    if items == [] and items is not document:
        return RegisterFile(notes=(f"No instances found in config file {name}",))
    if not isinstance(items, list) or items is document:
        return _unusable(f"Failed to unmarshal YAML file {name}: expected a key 'instances' with a list")
    return _parse_entries(items, [place_of(name, lines, index) for index in range(len(items))], accept)


class RegisterYaml:
    """The source that names what ``register.yaml`` does: at the start, and whenever somebody asks for a reload.

    At the start what can't be used is logged and the rest taken; a reload takes all or nothing.
    """

    name = REGISTER_YAML.name

    def __init__(self, path: str, accept: Accept, *, log: Log) -> None:
        """``path`` may be empty: no file. ``accept`` raises RegistrationError for what can't be a member here."""
        self._path = path
        self._accept = accept
        self._log = log
        self.has_named = asyncio.Event()
        """Set once what the file names at the start is known."""

    async def run(self, members: SourceMembers) -> None:
        """Name what the file has now."""
        try:
            file = await in_thread(partial(self._read, self._path), limit_secs=READ_SECS)
            for problem in file.problems:
                self._log.error(problem.text)
            for note in file.notes:
                self._log.info(note)
            await members.replace_in_slices(file.entries.values(), indices=file.entries)
        finally:
            self.has_named.set()

    def prepare(self, path: str) -> Callable[[SourceMembers], Awaitable[Diff]]:
        """Read the file at ``path``; what is returned names what it has. Raises ConfigError for any problem."""
        file = self._read(path)
        if file.problems:
            raise ConfigError(*map(str, file.problems))
        return lambda members: self._name(file, members, path)

    def _read(self, path: str) -> RegisterFile:
        return read_register_file(Path(path), self._accept) if path else RegisterFile()

    async def _name(self, file: RegisterFile, members: SourceMembers, path: str) -> Diff:
        self._path = path
        reason = f"no longer in {path}" if path else "no register.yaml"
        return await members.replace_in_slices(file.entries.values(), indices=file.entries, reason=reason)

    def __repr__(self) -> str:
        return f"<RegisterYaml {self._path or 'without a file'}>"


def _unusable(text: str) -> RegisterFile:
    return RegisterFile({}, (Problem(text),))


def _parse_entries(items: list[object], places: Sequence[str], accept: Accept) -> RegisterFile:
    entries: dict[int, Registration] = {}
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        faults: Sequence[str] = ()
        try:
            registration = _parse_entry(item, accept)
        except RegistrationError as error:
            faults = (isinstance(item, Mapping) and faults_of(item)) or [error.message]
        else:
            first = seen.setdefault(registration.key, index)
            if first != index:
                faults = [f"{registration.url} is at index {first} already"]
            else:
                entries[index] = registration
        problems += [Problem(f"Failed to register instance from index {index}: {x}", places[index]) for x in faults]
    return RegisterFile(entries, tuple(problems))


def _parse_entry(item: object, accept: Accept) -> Registration:
    if not isinstance(item, Mapping):
        raise RegistrationError("expected a mapping with role, host_ip and port")
    registration = parse_registration(item)
    accept(registration)
    return registration
