"""The registration reader: what heartbeats say is taken apart once, as most say what was said before, to the byte."""

from __future__ import annotations

from fd_router.instances.registration import Registration, decode_registration

MOST = 4096
"""Registrations that are remembered; then it begins anew."""

MAX_BYTES = 4096
"""Of one that is remembered: a real one has a few hundred."""


class RegistrationReader:
    """Reads bodies of ``POST /register``. Taking one apart costs more than the probe of the instance."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Registration] = {}

    def read(self, body: bytes) -> Registration:
        """Read one. Raises what ``decode_registration`` does."""
        registration = self._known.get(body)
        if registration is None:
            registration = decode_registration(body)
            if len(body) <= MAX_BYTES:
                if len(self._known) >= MOST:
                    self._known.clear()
                self._known[body] = registration
        return registration

    def __repr__(self) -> str:
        return f"<RegistrationReader of {len(self._known)}>"
