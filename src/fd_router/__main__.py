"""``python -m fd_router``, and the program ``fd-router``."""

from __future__ import annotations

from importlib import import_module

from fd_router.early_signals import hold


def main() -> None:
    """Run the command line, with signals under control before anything else is imported."""
    hold()
    import_module("fd_router.cli").main()


if __name__ == "__main__":
    main()
