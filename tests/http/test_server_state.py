"""What a server knows of all its connections."""

from __future__ import annotations

from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.server_context import FEW_CONNECTIONS, ServerState
from tests.support.fake_transport import FakeLoop
from tests.support.live import live_config


class Client:
    def __init__(self, proxied: object = None) -> None:
        self.proxied = proxied


def test_it_is_idle_as_long_as_no_instance_answers_a_request() -> None:
    state = ServerState(live_config(), DeadlineSweeper(FakeLoop(now=1.0)))  # type: ignore[arg-type]
    assert state.is_idle
    clients = [Client(), Client()]
    state.connections.update(clients)  # type: ignore[arg-type]
    assert state.is_idle
    clients[1].proxied = object()
    assert not state.is_idle


def test_of_many_connections_nobody_asks_whether_it_is_idle() -> None:
    state = ServerState(live_config(), DeadlineSweeper(FakeLoop(now=1.0)))  # type: ignore[arg-type]
    state.connections = {Client() for _ in range(FEW_CONNECTIONS + 1)}  # type: ignore[misc]
    assert not state.is_idle
