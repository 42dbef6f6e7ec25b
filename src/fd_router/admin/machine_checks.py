"""What the doctor looks at on this machine: versions, limits, proxies, the configuration and its files."""

from __future__ import annotations

import platform
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from fd_router import __version__
from fd_router.admin.certificates import validities
from fd_router.admin.findings import Finding, bad, good, odd
from fd_router.config.host_names import is_loopback
from fd_router.config.loading import Config, Report

FEW_FILES: Final = 4096
SOON: Final = timedelta(days=14)

_OPTIONAL: Final = ("tokenizers", "matplotlib")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")


def versions() -> Iterator[Finding]:
    """Say what runs here."""
    parts = [f"{name} {version(name)}" for name in ("uvloop", "httptools", "msgspec")]
    missing = [name for name in _OPTIONAL if not _is_installed(name)]
    without = f"; without the optional {' and '.join(missing)}" if missing else ""
    yield good(f"fd-router {__version__}, Python {platform.python_version()}, {', '.join(parts)}{without}")


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def open_files() -> Iterator[Finding]:
    """Say how many connections a router that is started from here could have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    what = f"a router started here may have {most:,} open files; a stream takes two"
    if most < FEW_FILES:
        yield odd(what, "raise the limit: 'ulimit -Hn 65536', LimitNOFILE= in a unit, --ulimit of a container")
    else:
        yield good(what)


def proxies(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Say whether programs on this machine would send requests for the router elsewhere."""
    names = [name for name in environ if name.lower() in _PROXIES and environ[name]]
    if names and not environ.get("no_proxy", environ.get("NO_PROXY", "")):
        mend = "for clients on this machine: NO_PROXY=127.0.0.1,localhost and the router's host, or curl --noproxy '*'"
        yield odd(
            f"{', '.join(sorted(names))} is set, NO_PROXY isn't: the router looks at neither, its clients do", mend
        )
    else:
        yield good("no proxy stands between clients on this machine and the router")


def configuration(report: Report | None) -> Iterator[Finding]:
    """Say what ``check-config`` says."""
    if report is None:
        yield odd("no configuration was looked at", "name it with --config_path, as for the router")
        return
    yield from (bad(problem, "'fd-router check-config' says whether it is mended") for problem in report.problems)
    yield from (odd(warning, "mend or delete the line") for warning in report.warnings)
    if not report.problems and not report.warnings:
        yield good("the configuration is right, with the files that it names")


def exposure(config: Config) -> Iterator[Finding]:
    """Say whether anybody who reaches the router may bring instances of their own."""
    access = config.access
    host = access.control_host if access.control_port else config.server.host
    is_kept = access.register_token or access.register_token_path or access.register_networks
    if not is_kept and not is_loopback(host):
        what = (
            f"whoever reaches {host or 'any address of this machine'} may register instances, to which prompts are sent"
        )
        mend = "access.register-networks, access.register-token (docs/security.md), or listen on 127.0.0.1 only"
        yield odd(what, mend)


def certificates(config: Config, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Finding]:
    """Say until when the certificates that the configuration names are valid."""
    tls = config.tls
    for key, path in (
        ("tls.cert-path", tls.cert_path),
        ("tls.upstream-cert-path", tls.upstream_cert_path),
        ("tls.upstream-ca-path", tls.upstream_ca_path),
    ):
        if path:
            yield from _dates(f"{key}: {path}", path, now())


def _dates(what: str, path: str, now: datetime) -> Iterator[Finding]:
    try:
        found: Sequence[tuple[datetime, datetime]] = validities(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        yield bad(f"{what}: {error}", "give a file of certificates in PEM format")
        return
    for begins, ends in found:
        if now < begins:
            yield bad(f"{what} is valid from {begins:%Y-%m-%d %H:%M} UTC on", "is this machine's clock right?")
        elif now > ends:
            yield bad(f"{what} was valid until {ends:%Y-%m-%d %H:%M} UTC", "renew it, then 'fd-router reload'")
        elif ends - now < SOON:
            yield odd(f"{what} is valid until {ends:%Y-%m-%d} only", "renew it, then 'fd-router reload'")
        else:
            yield good(f"{what} is valid until {ends:%Y-%m-%d}")


def disk(config: Config) -> Iterator[Finding]:
    """Say whether the log has room for what may be kept of it."""
    log = config.log
    if log.output != "file":
        return
    folder = next(parent for parent in Path(log.path).absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free >> 20
    what = f"{folder} has {free:,} MB free; log files may take {log.max_total_size_mb:,} MB (log.max-total-size-mb)"
    yield good(what) if free > log.max_total_size_mb else odd(what, "make room, or keep less")
