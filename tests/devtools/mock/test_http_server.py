"""The mock's HTTP server over real sockets, byte by byte where it matters."""

import asyncio
import contextlib

import pytest

from fd_router.devtools.mock.http_server import MAX_PIPELINED, MockServer
from tests.support.waiting import until


class Answers:
    """What the server is told to do: answers each request with its method, target and body."""

    def __init__(self):
        self.calls = []
        self.held = []
        self.gone = 0

    def handle(self, call, connection):
        self.calls.append((call, connection))
        if call.request.path == "/hold":
            call.on_gone = self.on_gone
            self.held.append(call)
        elif call.request.path == "/stream":
            call.begin(200, "text/plain")
            call.send(b"one", b"two")
            call.end()
        else:
            request = call.request
            text = f"{request.method} {request.path}?{request.query} "
            call.respond(200, text.encode() + request.body, "text/plain")

    def on_gone(self):
        self.gone += 1

    def refuse(self, call):
        call.respond(400, b"bad", "text/plain")


@contextlib.asynccontextmanager
async def serving(keep_alive_secs=5.0):
    answers = Answers()
    server = MockServer(answers.handle, answers.refuse, keep_alive_secs)
    await server.open("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield server, answers, reader, writer
    finally:
        writer.transport.abort()
        server.close()
        await asyncio.sleep(0)


async def read_answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    return head, await reader.readexactly(length)


POST = b"POST /echo?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


async def test_a_request_at_once_and_byte_by_byte():
    async with serving() as (_, answers, reader, writer):
        writer.write(POST)
        assert (await read_answer(reader))[1] == b"POST /echo?a=b hello"
        for index in range(len(POST)):
            writer.write(POST[index : index + 1])
            await asyncio.sleep(0)
        head, body = await read_answer(reader)
        assert body == b"POST /echo?a=b hello"
        assert head.startswith("http/1.1 200 ok\r\ndate: ")
        assert [connection for _, connection in answers.calls] == [1, 1]


async def test_a_chunked_request():
    async with serving() as (_, _, reader, writer):
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert (await read_answer(reader))[1] == b"POST /? abcde"


async def test_pipelined_requests_are_answered_in_order():
    async with serving() as (_, answers, reader, writer):
        number = MAX_PIPELINED * 3
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % index for index in range(number)))
        await until(lambda: answers.held)
        await asyncio.sleep(0.01)
        assert len(answers.calls) == 1  # the others wait for the one that is held
        answers.held[0].respond(200, b"first")
        assert (await read_answer(reader))[1] == b"first"
        for index in range(number):
            assert (await read_answer(reader))[1] == b"GET /%d? " % index


async def test_a_stream_is_chunked():
    async with serving() as (_, _, reader, writer):
        writer.write(b"GET /stream HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n")
        assert b"transfer-encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        assert (await read_answer(reader))[1] == b"GET /next? "


async def test_an_http_1_0_stream_ends_with_the_connection():
    async with serving() as (_, _, reader, writer):
        writer.write(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert body == b"onetwo"
        assert b"connection: close" in head
        assert b"chunked" not in head


async def test_an_http_1_0_client_may_keep_the_connection():
    async with serving() as (_, _, reader, writer):
        for _ in range(2):
            writer.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert "connection: keep-alive" in (await read_answer(reader))[0]
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await read_answer(reader)
        assert await reader.read() == b""


async def test_connection_close_is_obeyed_and_said():
    async with serving() as (_, answers, reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET /more HTTP/1.1\r\n\r\n")
        assert "connection: close" in (await read_answer(reader))[0]
        assert await reader.read() == b""
        assert len(answers.calls) == 1


async def test_head_has_the_length_and_no_body():
    async with serving() as (_, _, reader, writer):
        writer.write(b"HEAD /x HTTP/1.1\r\n\r\nGET /y HTTP/1.1\r\n\r\n")
        assert b"content-length: 9\r\n" in await reader.readuntil(b"\r\n\r\n")
        assert (await read_answer(reader))[1] == b"GET /y? "


async def test_an_expecting_client_is_told_to_go_on():
    async with serving() as (_, _, reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await read_answer(reader))[1] == b"POST /? ok"


@pytest.mark.parametrize(
    "garbage", [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
async def test_what_is_not_http_gets_400_after_the_answers_before_it(garbage):
    async with serving() as (_, _, reader, writer):
        writer.write(b"GET /good HTTP/1.1\r\n\r\n" + garbage)
        assert (await read_answer(reader))[1] == b"GET /good? "
        head, body = await read_answer(reader)
        assert head.startswith("http/1.1 400 ")
        assert body == b"bad"
        assert await reader.read() == b""


async def test_an_upgrade_is_not_taken():
    async with serving() as (_, _, reader, writer):
        writer.write(b"GET /up HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        head, body = await read_answer(reader)
        assert head.startswith("http/1.1 200 ")
        assert body == b"GET /up? "
        assert await reader.read() == b""


async def test_absolute_targets_are_understood():
    async with serving() as (_, _, reader, writer):
        writer.write(b"GET http://host:1/path?q=1 HTTP/1.1\r\nHost: host:1\r\n\r\n")
        assert (await read_answer(reader))[1] == b"GET /path?q=1 "


async def test_a_client_that_leaves_is_noticed_once():
    async with serving() as (server, answers, _, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\nGET /never HTTP/1.1\r\n\r\n")
        await until(lambda: answers.held)
        writer.transport.abort()
        await until(lambda: not server.connections)
        assert answers.gone == 1
        answers.held[0].respond(200, b"too late")  # harmless
        assert len(answers.calls) == 1


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not():
    async with serving(keep_alive_secs=0.05) as (server, answers, reader, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        await until(lambda: answers.held)
        await asyncio.sleep(0.2)
        assert len(server.connections) == 1
        answers.held[0].respond(200, b"slow")
        await read_answer(reader)
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_a_reset_is_a_reset_and_what_was_written_arrives_first():
    async with serving() as (_, answers, reader, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        await until(lambda: answers.held)
        answers.held[0].raw(b"part")
        answers.held[0].drop(reset=True)
        assert await reader.readexactly(4) == b"part"
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_partial_answer_then_fin():
    async with serving() as (_, answers, reader, writer):
        writer.write(b"GET /hold HTTP/1.1\r\n\r\n")
        await until(lambda: answers.held)
        answers.held[0].respond(200, b"0123456789", upto=4)
        answers.held[0].drop(reset=False)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert b"content-length: 10" in head
        assert body == b"0123"


async def test_nobody_listens_until_told_again():
    async with serving() as (server, _, reader, writer):
        server.stop_listening()
        await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(POST)  # the open connection goes on
        await read_answer(reader)
        await server.listen_again()
        _, other = await asyncio.open_connection("127.0.0.1", server.port)
        other.transport.abort()
