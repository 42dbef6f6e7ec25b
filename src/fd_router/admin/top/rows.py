"""What ``fd-router top`` shows of a frame: cells and lines that fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

COLUMNS: Final = ("instance", "role", "state", "run", "tokens", "req/s", "fail/s", "first")

ORDERS: Final = ("instance", "running", "first token", "failures")
"""By what the instances may be ordered; all but the first with the largest first."""

_DASH: Final = "–"


def figure(value: float | None) -> str:
    """Write a number in at most six characters."""
    if value is None:
        return _DASH
    if value >= 10_000:
        return f"{value / 1000:.0f}k" if value < 1e6 else f"{value / 1e6:.1f}M"
    return f"{value:g}" if isinstance(value, int) or value >= 100 else f"{value:.3g}"


def milliseconds(value: float | None) -> str:
    """Write a time."""
    if value is None:
        return _DASH
    return f"{value / 1000:.1f} s" if value >= 10_000 else f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"


def state_words(entry: Mapping[str, Any]) -> str:
    """Say how an instance is: why it gets nothing, else its health."""
    flags = [str(flag) for flag in entry["flags"]]
    if entry["state"] != "healthy":
        return str(entry["state"])
    return ", ".join(flags) or "healthy"


def colour_of(entry: Mapping[str, Any]) -> str:
    """Return the colour of its state."""
    if entry["state"] != "healthy":
        return "red"
    return "yellow" if set(entry["flags"]) - {"full"} else "green"


def ordered(entries: Sequence[Mapping[str, Any]], order: str) -> list[Mapping[str, Any]]:
    """Order the entries by one of ``ORDERS``."""
    by_name = sorted(entries, key=lambda entry: (str(entry["role"]), str(entry["key"])))
    field = {"running": "running", "first token": "ttft_ms", "failures": "failed"}.get(order)
    return by_name if field is None else sorted(by_name, key=lambda entry: -(entry.get(field) or 0))


def cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Make an instance's cells, one for each of ``COLUMNS``."""
    running = f"{entry['running']}/{entry['limit']}" if entry["limit"] else str(entry["running"])
    return (
        str(entry["key"]), str(entry["role"]), state_words(entry), running, figure(entry["tokens"]),
        figure(entry.get("rate", 0)), figure(entry.get("failed", 0)), milliseconds(entry.get("ttft_ms")),
    )  # fmt: skip


def summary(frame: Mapping[str, Any]) -> str:
    """Sum traffic and fleet up in two lines."""
    entries, traffic = frame["instances"], frame.get("traffic") or {}
    serving = sum(entry["state"] == "healthy" and not set(entry["flags"]) - {"full"} for entry in entries)
    running = sum(int(entry["running"]) for entry in entries if entry["role"] != "decode")
    waiting = sum(frame["queue"].values())
    return (
        f"{serving} of {len(entries)} instances may be chosen · {running} running · {waiting} waiting\n"
        f"{figure(traffic.get('rate'))} req/s · {figure(traffic.get('failed'))} failed/s · first token "
        f"{milliseconds(traffic.get('ttft_ms'))} (95 % < {milliseconds(traffic.get('ttft_p95_ms'))}) · "
        f"≈ {milliseconds(traffic.get('ms_per_token'))} a token"
    )


def trouble_line(entry: Mapping[str, Any], at: str) -> str:
    """Tell of a failure or a change in a line; ``at``: the time of day."""
    url = _address(entry)
    if entry["kind"] == "instance":
        return f"{at} {url} {entry['cause']}"
    return f"{at} {entry['path']} → {url or 'nobody'} ({entry['status'] or 'cut off'}): {entry['cause']}"


def decision_line(entry: Mapping[str, Any], at: str) -> str:
    """Tell of a decision in a line."""
    hit = f" hit {entry['hit']} %" if entry["hit"] is not None else ""
    score = f" score {figure(entry['score'])}" if entry["score"] is not None else ""
    return f"{at} {entry['role']} → {_address(entry)}{hit}{score}: {entry['reason']}"


def _address(entry: Mapping[str, Any]) -> str:
    return str(entry["url"]).replace("http://", "").replace("https://", "")
