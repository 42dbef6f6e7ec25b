import asyncio
import base64
import contextlib
import json

from fd_router.devtools.mock.heartbeat import Heartbeat, registration
from fd_router.devtools.mock.http_server import MockServer
from fd_router.devtools.mock.options import MockOptions
from tests.support.waiting import until


class FakeRouter:
    """Collects registrations and answers them with ``status``."""

    def __init__(self):
        self.bodies = []
        self.status = 200
        self.server = MockServer(self.handle, self.handle)

    def handle(self, call, connection=0):
        assert (call.request.method, call.request.path) == ("POST", "/register")
        self.headers = dict(call.request.headers)
        self.bodies.append(json.loads(call.request.body))
        call.respond(self.status, b'{"code": 200, "msg": "Register success"}')


@contextlib.asynccontextmanager
async def beating(router, is_healthy=lambda: True, credentials="", **options):
    lines = []
    made = MockOptions(router=f"{credentials}127.0.0.1:{router.server.port}", heartbeat_secs=0.02, **options)
    heartbeat = Heartbeat(made, 8101, is_healthy, lines.append)
    task = asyncio.create_task(heartbeat.run())
    try:
        yield heartbeat, lines
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        router.server.close()


async def test_registers_again_and_again():
    router = FakeRouter()
    await router.server.open("127.0.0.1", 0)
    async with beating(router, tp_size=2, version="2.4") as (heartbeat, lines):
        await until(lambda: len(router.bodies) >= 3)
        body = router.bodies[0]
        assert (body["role"], body["host_ip"], body["port"], body["tp_size"], body["version"]) == (
            "mixed",
            "127.0.0.1",
            8101,
            2,
            "2.4",
        )
        assert body["device_ids"] == ["0", "1"]
        assert heartbeat.is_registered
        assert len(lines) == 1  # one line, not one a heartbeat
        assert lines[0].endswith(": registered")


async def test_a_token_is_shown_as_a_password_and_never_told():
    router = FakeRouter()
    await router.server.open("127.0.0.1", 0)
    async with beating(router, credentials="any:secret@") as (heartbeat, lines):
        await until(lambda: heartbeat.is_registered)
    assert router.headers[b"authorization"] == b"Basic " + base64.b64encode(b"any:secret")
    assert "secret" not in lines[0] + repr(heartbeat)


async def test_a_failure_is_told_once_and_healed():
    router = FakeRouter()
    await router.server.open("127.0.0.1", 0)
    router.server.stop_listening()
    await asyncio.sleep(0.01)
    async with beating(router) as (heartbeat, lines):
        await until(lambda: lines)
        assert "failed to register: " in lines[0]
        assert not heartbeat.is_registered
        router.status = 503
        await router.server.listen_again()
        await until(lambda: len(lines) == 2)
        assert "503" in lines[1]
        router.status = 200
        await until(lambda: heartbeat.is_registered)
        assert repr(heartbeat).endswith(": registered>")


async def test_an_unhealthy_instance_keeps_still():
    router = FakeRouter()
    await router.server.open("127.0.0.1", 0)
    healthy = False
    async with beating(router, is_healthy=lambda: healthy):
        await asyncio.sleep(0.1)
        assert router.bodies == []
        healthy = True
        await until(lambda: router.bodies)


def test_an_instance_on_every_address_registers_loopback():
    assert registration(MockOptions(host="0.0.0.0"), 1)["host_ip"] == "127.0.0.1"
    assert registration(MockOptions(host="::"), 1)["host_ip"] == "::1"
