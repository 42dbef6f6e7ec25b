"""Signals from the first instant on: a process that still imports its modules mustn't die of a call for a reload.

This imports nothing but the interpreter's own, since it is the first to run.
"""

from __future__ import annotations

import signal
from types import FrameType


class Hangup:
    """The handler of SIGHUP until a router runs: it remembers that one came."""

    __slots__ = ("came",)

    def __init__(self) -> None:
        self.came = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Called by the interpreter."""
        self.came = True


def hold() -> Hangup:
    """Keep signals from ending the process, but for those that are meant to. Returns who remembers SIGHUP.

    Ctrl-C ends it at once and without a traceback, wherever in an import it is. A handler that is there stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
    present = signal.getsignal(signal.SIGHUP)
    if isinstance(present, Hangup):
        return present
    hangup = Hangup()
    if present is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, hangup)
    return hangup


def let_go() -> None:
    """Undo ``hold`` for a command that is no router: it ends with its terminal, and Ctrl-C is its to handle."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if isinstance(signal.getsignal(signal.SIGHUP), Hangup):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
