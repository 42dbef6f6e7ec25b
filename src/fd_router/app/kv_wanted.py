"""Whether KV events are followed: a file of its own, for what follows them needs NumPy, which most policies don't."""

from __future__ import annotations

from fd_router.config.loading import SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.telemetry.contracts import Log


def wants_kv_events(options: SchedulerConfig, log: Log, *, has_tokens: bool, is_recorded: bool) -> bool:
    """Tell whether they are, where a policy has a prefix index. Raises ConfigError.

    Without exact tokens they say nothing of a prompt; and decisions that are recorded must follow from the recording.
    """
    if options.kv_events == "off" or (options.kv_events == "auto" and not has_tokens):
        return False
    problem = package_problem(options)
    if is_recorded:
        problem = "decisions are recorded"
    if problem:
        log.info(f"KV events aren't followed: {problem}")
    return not problem


def package_problem(options: SchedulerConfig) -> str:
    """Say why they can't be followed here; "" when they can. Raises ConfigError where they must be."""
    from fd_router.instances.kv_events.sockets import zmq_problem  # noqa: PLC0415  it costs start-up time

    problem = zmq_problem()
    if problem and options.kv_events == "on":
        raise ConfigError(f"scheduler.kv-events: on: {problem}")
    return problem
