"""Errors of plug-ins: counted each, logged at once and then once a minute at most."""

from __future__ import annotations

import math
from collections.abc import Callable

OnError = Callable[[str, str, str], None]
"""(hook, kind, detail): ``choose`` or another one; ``raised`` or ``wrong_choice``; nothing of a request in it."""

SILENT_SECONDS = 60.0
"""Between two lines about a policy that goes on failing."""


class PluginErrors:
    """Tells of what a policy does wrong: each time by ``count``; by ``log`` the first time, then once a minute at most.

    ``count`` takes the kind, ``log`` a sentence.
    """

    def __init__(
        self, name: str, *, count: Callable[[str], None], log: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        self._name = name
        self._count = count
        self._log = log
        self._clock = clock
        self._silent_until = -math.inf
        self._unsaid = 0

    def __call__(self, hook: str, kind: str, detail: str) -> None:
        """Take note."""
        self._count(kind)
        self._unsaid += 1
        now = self._clock()
        if now < self._silent_until:
            return
        times = f" ({self._unsaid} times since the last such line)" if self._unsaid > 1 else ""
        what = "failed, so request_num chooses instead" if hook == "choose" else f"failed in {hook}"
        self._log(f"The policy {self._name} {what}: {detail}{times}")
        self._silent_until, self._unsaid = now + SILENT_SECONDS, 0
