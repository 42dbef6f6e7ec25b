"""Exposure: what anybody may do who reaches the router's ports."""

from __future__ import annotations

from fd_router.app.admission import Admission
from fd_router.config.host_names import is_loopback
from fd_router.http.handed_listener import HandedListener
from fd_router.http.listener import Listener
from fd_router.telemetry.contracts import Log

_NONE = "(no access.register-token, no access.register-networks)"


AnyListener = Listener | HandedListener


def warn_if_open(
    admission: Admission, listener: AnyListener, control: AnyListener | None, log: Log, *, shows_keys: bool
) -> None:
    """Say so, loudly, when whoever reaches this machine may do everything, or bring instances of his own.

    ``shows_keys``: to instances. By the addresses that are listened on: a socket that was handed over needn't be the
    configured one.
    """
    rules = admission.rules
    hosts = [host for host in (control or listener).hosts if not is_loopback(host)]
    if not hosts or rules.register is not None or rules.networks is not None:
        return
    sent = "prompts and the key for instances are sent then" if shows_keys else "prompts are sent then"
    if control is None and admission.gate is None and rules.admin is None:
        what = f"DO EVERYTHING: send requests (no access.keys-path), register instances, to which {sent}"
        remedy = "administrate (no access.admin-token). See docs/security.md, or listen on 127.0.0.1 (server.host)"
    else:
        what = f"REGISTER INSTANCES, to which {sent}"
        remedy = "whatever else is protected. See docs/security.md"
    log.warn(f"ANYBODY WHO REACHES {hosts[0]} MAY {what} {_NONE}, {remedy}")
