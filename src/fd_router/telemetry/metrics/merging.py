"""One page of metrics of several workers: sums, and a label where a sum would say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

OF_A_PROCESS = ("process_", "python_", "fd_router_state_", "fd_router_source_")
"""Beginnings of names that tell of one process: each worker's stand side by side."""

OF_ALL = (
    "fd_router_instance_healthy",
    "fd_router_instances",
    "fd_router_info",
    "fd_router_circuit",
    "fd_router_prefix_index",
    "fd_router_model",
)
"""Beginnings of gauges' names that every worker tells alike: the highest stands for all."""


class _Family:
    """Lines of one name: its comments, and its samples in the order in which they came first."""

    __slots__ = ("comments", "kind", "samples")

    def __init__(self) -> None:
        self.comments: list[str] = []
        self.kind = "untyped"
        self.samples: dict[str, float] = {}


def merged(pages: Mapping[str, bytes]) -> bytes:
    """Return one page in the text format of those of each worker, by its number."""
    families: dict[str, _Family] = {}
    for worker, page in sorted(pages.items()):
        for name, family in _families(page):
            known = families.setdefault(name, family)
            if known is not family:
                _add(name, known, family)
            if name.startswith(OF_A_PROCESS):
                family.samples = {_labelled(sample, worker): value for sample, value in family.samples.items()}
                if known is not family:
                    known.samples.update(family.samples)
    return "".join(_written(families)).encode()


def _families(page: bytes) -> Iterator[tuple[str, _Family]]:
    name, family = "", _Family()
    for line in page.decode().splitlines():
        if line.startswith("# HELP "):
            if name:
                yield name, family
            name, family = line.split(" ", 3)[2], _Family()
            family.comments.append(line)
        elif line.startswith("# TYPE "):
            family.kind = line.split(" ")[3]
            family.comments.append(line)
        elif line and not line.startswith("#"):
            sample, _, value = line.rpartition(" ")
            family.samples[sample] = float(value)
    if name:
        yield name, family


def _add(name: str, known: _Family, family: _Family) -> None:
    """Take another worker's samples in."""
    if name.startswith(OF_A_PROCESS):
        return
    is_common = family.kind == "gauge" and name.startswith(OF_ALL)
    for sample, value in family.samples.items():
        if sample not in known.samples:
            known.samples[sample] = value
        elif is_common:
            known.samples[sample] = max(known.samples[sample], value)
        else:
            known.samples[sample] += value


def _labelled(sample: str, worker: str) -> str:
    name, brace, labels = sample.partition("{")
    return f'{name}{{worker="{worker}",{labels}' if brace else f'{name}{{worker="{worker}"}}'


def _written(families: Mapping[str, _Family]) -> Iterator[str]:
    for family in families.values():
        for comment in family.comments:
            yield f"{comment}\n"
        for sample, value in family.samples.items():
            yield f"{sample} {value!r}\n"
