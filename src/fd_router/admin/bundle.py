"""The bundle: one archive with what a bug report needs, without secrets; no prompt is in anything that it takes."""

from __future__ import annotations

import io
import os
import platform
import resource
import sys
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from fd_router import __version__
from fd_router.admin import doctor
from fd_router.admin.router_client import RouterClient, RouterUnreachableError
from fd_router.admin.secrets_removed import (
    REMOVED,
    USERINFO,
    is_secret_name,
    secret_values,
    values_removed,
    without_secrets,
)
from fd_router.config import reference
from fd_router.config.loading import OPTIONS, Config, Report
from fd_router.config.options import ENVIRONMENT_PREFIX

LOG: Final = "router.log"

_ENDPOINTS: Final = {
    "health.json": "/health",
    "instances.json": "/instances",
    "registered.json": "/registered",
    "metrics.txt": "/metrics",
}


class Bundle:
    """Gathers the parts and writes the archive. ``report``: of the configuration, if one is named."""

    def __init__(
        self, client: RouterClient, report: Report | None, *, log_lines: int, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._client = client
        self._report = report
        self._log_lines = log_lines
        self._environ = environ
        self._secrets = {client.address.token, *_secrets_of(report.config if report else None, environ)}

    def write(self, path: Path) -> list[str]:
        """Write the archive; return what is in it. Raises OSError."""
        folder = path.name.partition(".")[0]
        names = []
        with tarfile.open(path, "x:gz") as archive:
            path.chmod(0o600)
            for name, text in self._parts():
                data = without_secrets(text, self._secrets).encode(errors="replace")
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
                names.append(name)
        return names

    def _parts(self) -> Iterator[tuple[str, str]]:
        yield "machine.txt", self._machine()
        yield "environment.txt", self._environment()
        if self._report is not None:
            yield "configuration.yaml", _configuration(self._report)
            yield from self._log(self._report.config)
        yield "doctor.txt", self._doctor()
        for name, path in _ENDPOINTS.items():
            if text := self._ask(path):
                yield name, text

    def _machine(self) -> str:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lines = {
            "fd-router": __version__,
            "python": sys.version,
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "open files": f"{soft} (at most {hard})",
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        return "".join(f"{name}: {value}\n" for name, value in lines.items())

    def _environment(self) -> str:
        names = sorted(name for name in self._environ if name.startswith(ENVIRONMENT_PREFIX))
        shown = (f"{name}={REMOVED if is_secret_name(name) else self._environ[name]}\n" for name in names)
        return "".join(shown)

    def _doctor(self) -> str:
        console = Console(file=io.StringIO(), width=160, highlight=False)
        doctor.tell(doctor.examine_all(self._client, self._report), console)
        text: str = console.file.getvalue()  # type: ignore[attr-defined]
        return text

    def _log(self, config: Config) -> Iterator[tuple[str, str]]:
        """Take the last lines of the log, which has no prompt in it, whatever its level."""
        path = Path(config.log.path)
        if config.log.output == "file" and path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                yield LOG, "".join(deque(file, self._log_lines))

    def _ask(self, path: str) -> str:
        try:
            reply = self._client.send("GET", path)
        except RouterUnreachableError:
            return ""  # the doctor's part tells
        text = reply.body.decode("utf-8", "replace")
        if reply.status == 200 and path != "/metrics":
            text = msgspec.json.format(msgspec.json.encode(values_removed(reply.json())), indent=1).decode()
        return text if reply.status == 200 else f"status {reply.status}: {text}\n"


def default_name(now: Callable[[], float] = time.time) -> str:
    """Return what the archive is called unless told otherwise."""
    return time.strftime("fd-router-bundle-%Y%m%d-%H%M%S.tar.gz", time.localtime(now()))


def _configuration(report: Report) -> str:
    """Write what is in force, and what is wrong with it; mappings of plug-ins' options may hold secrets of theirs."""
    config = report.config
    for option in OPTIONS:
        if option.kind is dict:
            section = getattr(config, option.section)
            cleaned = {option.attribute: values_removed(getattr(section, option.attribute))}
            config = msgspec.structs.replace(config, **{option.section: msgspec.structs.replace(section, **cleaned)})
    notes = [f"# error: {line}\n" for line in report.problems] + [f"# warning: {line}\n" for line in report.warnings]
    return "".join(notes) + reference.in_force(config, report.origins)


def _secrets_of(config: Config | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Give every secret that is known here, to be removed wherever it stands."""
    yield from (
        value for name, value in environ.items() if name.startswith(ENVIRONMENT_PREFIX) and is_secret_name(name)
    )
    for option in OPTIONS if config is not None else ():
        value = getattr(getattr(config, option.section), option.attribute)
        if option.option.secret and isinstance(value, str):
            yield value
        elif option.attribute.endswith(("token_path", "api_key_path")) and value:
            yield _text(Path(value))
        elif isinstance(value, str) and (found := USERINFO.search(value)):
            yield found["secret"]
        elif isinstance(value, dict):
            yield from secret_values(value)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
