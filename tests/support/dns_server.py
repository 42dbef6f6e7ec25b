"""A DNS server of a test's own, over UDP and TCP: it answers what the test puts into its zone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer:
    """Answers from ``zone``: (name, kind) → (TTL, records). A context manager that runs in a thread of its own."""

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], tuple[int, Sequence[str]]] = {}
        self.failure = ""  # SERVFAIL, or "silent"
        self.truncates = False  # over UDP: who asks must come again over TCP
        self.questions: list[tuple[str, str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def put(self, name: str, *records: str, kind: str = "A", ttl: int = 1) -> None:
        self.zone[name, kind] = (ttl, records)

    def answer(self, data: bytes, *, is_udp: bool) -> bytes | None:
        if self.failure == "silent":
            return None
        question = dns.message.from_wire(data)
        asked = question.question[0]
        name, kind = asked.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(asked.rdtype)
        self.questions.append((name, kind))
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.RA
        if self.failure:
            reply.set_rcode(dns.rcode.from_text(self.failure))
        elif is_udp and self.truncates:
            reply.flags |= dns.flags.TC
        elif not any(known == name for known, _ in self.zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif found := self.zone.get((name, kind)):
            reply.answer.append(dns.rrset.from_text(asked.name, found[0], "IN", kind, *found[1]))
        return reply.to_wire(max_size=65535)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    async def _start(self) -> int:
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = int(self._tcp.sockets[0].getsockname()[1])
        address = ("127.0.0.1", port)
        self._udp, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=address)
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        reply = self.answer(await reader.readexactly(size), is_udp=False)
        if reply is not None:
            writer.write(len(reply).to_bytes(2) + reply)
            await writer.drain()
        writer.close()

    async def _stop(self) -> None:
        self._udp.close()
        self._tcp.close()
        await asyncio.sleep(0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._server.answer(data, is_udp=True)
        if reply is not None:
            self._transport.sendto(reply, addr)
