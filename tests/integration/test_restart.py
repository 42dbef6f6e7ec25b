"""A new router takes over the port of an old one under load: nothing is refused, reset or dropped."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.mock_process import RouterProcess, call
from tests.support.ports import free_port
from tests.support.raw_client import RawClient, request

CHAT = "/v1/chat/completions"
STREAM = json.dumps(chat(max_tokens=100, stream=True)).encode()  # a second


class Load:
    """Clients that ask without pause, over new connections and over kept ones. ``problems`` must stay empty."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self.answered = 0
        self.problems: list[str] = []

    @contextmanager
    def running(self) -> Iterator[Load]:
        threads = [threading.Thread(target=kind) for kind in (self._ask_anew, self._ask_anew, self._ask_kept)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join(100)

    def _ask_anew(self) -> None:
        while not self._over.is_set():
            self._note(lambda: call(self._port, "POST", CHAT, chat(max_tokens=1), timeout=60)[0])

    def _ask_kept(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)

        def ask() -> int:
            connection.request("POST", CHAT, json.dumps(chat(max_tokens=1)))
            response = connection.getresponse()
            response.read()
            return response.status

        while not self._over.is_set():
            self._note(ask)
        connection.close()

    def _note(self, ask) -> None:  # type: ignore[no-untyped-def]
        try:
            status = ask()
        except (OSError, http.client.HTTPException) as error:
            self.problems.append(repr(error))
        else:
            self.answered += 1
            if status != 200:
                self.problems.append(f"status {status}")

    def more(self, number: int = 50) -> None:
        """Wait until so many more requests were answered."""
        until = self.answered + number
        eventually(lambda: self.answered >= until)


def another(fleet: Fleet, **options) -> RouterProcess:  # type: ignore[no-untyped-def]
    """Start a second router at the fleet's port, with the same instances."""
    instances = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port} for mock in fleet.mocks]
    config = {"server": {"reuse-port": "listener" not in options}, "log": {"output": "file"}}
    if (listener := options.get("listener")) is not None:
        return RouterProcess(config, port=fleet.port, instances=instances, **handing_over(listener))
    return RouterProcess(config, port=fleet.port, instances=instances)


def handing_over(listener: socket.socket) -> dict[str, tuple[object, ...]]:
    """Start a process the way systemd does, with ``listener`` as its descriptor 3."""
    number = listener.fileno()
    code = (
        f"import os, sys; os.dup2({number}, 3) if {number} != 3 else os.set_inheritable(3, True); "
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); os.execv(sys.argv[1], sys.argv[1:])"
    )
    return {"wrapper": (sys.executable, "-S", "-c", code), "pass_fds": (number,)}


def is_serving(router: RouterProcess) -> bool:
    return "Successfully registered instance" in router.log


@pytest.mark.slow
def test_a_second_router_takes_the_port_over_while_requests_run() -> None:
    with Fleet(1, mock={**QUICK, "decode_ms_per_token": 10}, config={"server": {"reuse-port": True}}) as fleet:
        old, load = fleet.router, Load(fleet.port)
        with RawClient(fleet.port) as streaming, load.running():
            streaming.send(request(CHAT, STREAM))
            streaming.read_head()
            load.more()
            new = fleet.add(another(fleet))
            eventually(lambda: is_serving(new))
            load.more()
            old.process.terminate()
            assert streaming.read_chunks([])[-1].endswith(b"data: [DONE]\n\n")
            assert old.process.wait(25) == 0
            load.more()
        assert load.problems == []
        assert new.stop() == 0


@pytest.mark.slow
def test_two_routers_on_one_socket_that_was_handed_to_them() -> None:
    with socket.socket() as listener, Fleet(1, mock=QUICK) as fleet:
        fleet.router.stop()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", fleet.port))
        listener.listen(4096)
        old = fleet.add(another(fleet, listener=listener))
        eventually(lambda: is_serving(old))
        load = Load(fleet.port)
        with load.running():
            load.more()
            new = fleet.add(another(fleet, listener=listener))
            eventually(lambda: is_serving(new))
            assert old.stop() == 0
            load.more()
            assert new.stop() == 0  # now nobody accepts: clients wait in the socket's queue …
            third = fleet.add(another(fleet, listener=listener))
            eventually(lambda: is_serving(third))
            load.more()  # … and are served
        assert {problem for problem in load.problems if problem != "status 502"} == set()


def test_its_supervisor_is_told_when_it_serves_and_when_it_stops(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with RouterProcess() as router:
            assert supervisor.recv(100) == b"READY=1"
            assert router.stop() == 0
            assert supervisor.recv(100) == b"STOPPING=1"


def test_a_descriptor_that_is_no_listening_socket_is_one_clear_line() -> None:
    with socket.socket() as plain:
        router = RouterProcess(port=free_port(), **handing_over(plain))  # type: ignore[arg-type]
        try:
            assert router.process.wait(25) == 1
            assert "LISTEN_FDS: descriptor 3 is no listening stream socket" in router.output
            assert "Traceback" not in router.output
        finally:
            router.end()


def test_the_newer_of_two_routers_has_the_control_port() -> None:
    port, control = free_port(), free_port()
    server = {"reuse-port": True, "drain-delay-secs": 600}
    config = {"server": server, "access": {"control-port": control}}
    with RouterProcess(config, port=port) as old:
        old.wait_until_up()
        with RouterProcess(config, port=port) as new:
            eventually(lambda: "Starting server on" in new.output and call(port, "GET", "/health")[0] == 200)
            old.process.terminate()
            eventually(lambda: "Stopping: no new connections" in old.output)
            assert {call(control, "GET", "/health")[0] for _ in range(20)} == {200}  # 503 by the old one
        eventually(lambda: call(control, "GET", "/health")[0] == 503)  # it has it still when there is no other
