"""What the log says at the start of deliberate differences to the Go program."""

from __future__ import annotations

import pytest

from fd_router.app.known_differences import known_differences
from fd_router.config.loading import Config, LogConfig, ServerConfig


def lines(host: str = "0.0.0.0", **log: object) -> list[str]:
    return list(known_differences(Config(server=ServerConfig(host=host), log=LogConfig(**log))))  # type: ignore[arg-type]


def test_the_defaults_differ_in_nothing_that_hurts() -> None:
    assert lines() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_host_that_the_go_program_ignored(host: str) -> None:
    (line,) = lines(host)
    assert line.startswith(f"Only this machine can connect: server.host is {host}. ")
    assert "server.host: 0.0.0.0" in line


@pytest.mark.parametrize("host", ["::", "10.0.0.1", "router.example"])
def test_a_host_that_others_reach_is_no_surprise(host: str) -> None:
    assert lines(host) == []


def test_rotated_logs_that_are_deleted() -> None:
    (line,) = lines(output="file", path="a/b.log", max_age_days=3, max_total_size_mb=40)
    assert line.startswith("a/b.log is rotated, and rotated files are deleted after 3 days or beyond 40 MB in all.")
    assert "log.max-age-days and log.max-total-size-mb" in line
