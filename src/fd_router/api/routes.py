"""Puts the endpoint groups together."""

from __future__ import annotations

from fd_router.http.messages import Handler, Routes


def merge_routes(*fragments: Routes) -> dict[str, dict[str, Handler]]:
    """Merge ``fragments`` into one mapping. Raises ValueError when two of them answer the same method of a path."""
    merged: dict[str, dict[str, Handler]] = {}
    for fragment in fragments:
        for path, methods in fragment.items():
            known = merged.setdefault(path, {})
            if doubles := known.keys() & methods.keys():
                raise ValueError(f"two handlers for {', '.join(sorted(doubles))} {path}")
            known.update(methods)
    return merged
