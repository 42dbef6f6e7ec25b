"""One instance of the fleet: what it registered, its health, and its counts in this router."""

from __future__ import annotations

from enum import Enum

from fd_router.instances.registration import Registration


class Health(Enum):
    """Whether an instance may be chosen. Only HEALTHY ones are."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"  # a connection to it failed while serving; a probe is under way
    UNHEALTHY = "unhealthy"  # probes failed, or none has succeeded yet


class Instance:
    """An identity (``host_ip:port``) whose data heartbeats replace and whose counts outlive them.

    It satisfies ``scheduling.contract.Candidate``. The counts change only through ``take`` and the two
    ``give_back`` methods, so that a delta from another process could call them as well.
    """

    __slots__ = ("health", "host", "key", "port", "registration", "running", "tokens", "url")

    def __init__(self, registration: Registration) -> None:
        self.key = registration.key  # "10.0.0.1:8000", "[::1]:8000"
        self.url = registration.url  # "http://" + key
        self.host = registration.host_ip
        self.port = registration.port
        self.registration = registration
        self.health = Health.UNHEALTHY
        self.running = 0
        self.tokens = 0

    def take(self, tokens: int) -> None:
        """Count one more request with ``tokens`` prompt tokens."""
        self.running += 1
        self.tokens += tokens

    def give_back_tokens(self, tokens: int) -> None:
        """The prefill of a request with ``tokens`` prompt tokens is done, or will never be."""
        self.tokens -= tokens

    def give_back_request(self) -> None:
        """A request ended, however it did."""
        self.running -= 1

    def __repr__(self) -> str:
        counts = f"running={self.running} tokens={self.tokens}"
        return f"<Instance {self.key} {self.registration.role} {self.health.value} {counts}>"
