"""What following KV events costs: a router before instances that publish as busy engines do, and nothing else.

    .venv/bin/python benchmarks/kv_events.py --instances 64 --events 1000 --secs 15

One process plays all instances: their health over HTTP, their events over ZeroMQ, 50 batches a second each. ``vllm``:
an event stores 19 blocks at once, and each block's removal is one; ``sglang``: an event a page. The router's CPU time
is read from the kernel, all its threads together, ZeroMQ's own among them; first without events, then with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import zmq

from fd_router.engines.kv_events import BlockRemoved, BlockStored, KvEvent

BATCHES = 50
"""A second, of each instance."""

CYCLE = 120
"""Batches before the same ones come again."""

HELD = 40
"""Batches after which a block is evicted."""

RUN = 19
"""Blocks that are stored at once, in vLLM's shape."""

SETTLE_SECS = 4.0

TICK = os.sysconf("SC_CLK_TCK")


def batches(shape: str, events: int, block: int, seed: int) -> list[bytes]:
    """Return payloads that can be published one after the other for ever, ``events`` in each."""
    rng = random.Random(seed)
    run = RUN if shape == "vllm" else 1
    runs = max(1, events // (2 * run) if run == 1 else events // (run + 1))
    stored = [
        [([rng.getrandbits(64) for _ in range(run)], [rng.randrange(150_000) for _ in range(run * block)])
         for _ in range(runs)] for _ in range(CYCLE)
    ]  # fmt: skip
    payloads = []
    for at in range(CYCLE):
        told: list[KvEvent] = [
            BlockStored(list(hashes), None, ids, block, medium="GPU", extra_keys=[None] * run, group_idx=0,
                        kv_cache_spec_kind="full_attention")
            for hashes, ids in stored[at]
        ]  # fmt: skip
        told += [BlockRemoved([each], "GPU", 0) for hashes, _ in stored[at - HELD] for each in hashes]
        payloads.append(msgspec.msgpack.encode((time.time(), told, 0)))
    return payloads


async def play(ports: list[int], shape: str, events: int, block: int) -> None:
    """Be the instances: three ports each, one after the other. Publishes from the line ``go`` on standard input on."""
    servers = [await asyncio.start_server(_answer, "127.0.0.1", port) for port in ports]
    context = zmq.Context()
    sockets, payloads = [], [batches(shape, events, block, seed) for seed in range(8)]
    for port in ports:
        sockets.append(context.socket(zmq.PUB))
        sockets[-1].bind(f"tcp://127.0.0.1:{port + 1}")
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    begun, number = time.monotonic(), 0
    while True:
        for at, publisher in enumerate(sockets):
            payload = payloads[at % len(payloads)][number % CYCLE]
            publisher.send_multipart((b"", number.to_bytes(8, "big"), payload))
            if at % 8 == 7:
                await asyncio.sleep(0)
        number += 1
        await asyncio.sleep(max(0.0, begun + number / BATCHES - time.monotonic()))
        assert servers


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def cpu_secs(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def share(pid: int, secs: float) -> float:
    """Return how much of a core the process takes."""
    before, begun = cpu_secs(pid), time.monotonic()
    time.sleep(secs)
    return (cpu_secs(pid) - before) / (time.monotonic() - begun)


def register(router: int, port: int) -> None:
    value = {"role": "mixed", "host_ip": "127.0.0.1", "port": port, "dialect": "vllm",
             "kv_events": f"tcp://*:{port + 1}"}  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{router}/register", json.dumps(value).encode(), {"content-type": "application/json"}
    )
    for _ in range(50):  # at first the router has other things to do
        try:
            urllib.request.urlopen(request, timeout=10).read()
        except urllib.error.HTTPError as error:
            trouble = error.read()
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(trouble.decode())


def metrics(router: int, name: str) -> float:
    page = urllib.request.urlopen(f"http://127.0.0.1:{router}/metrics", timeout=30).read().decode()
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name + "{"))


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens at {port}")


def measure(arguments: argparse.Namespace) -> None:
    ports = [arguments.first_port + 3 * at for at in range(arguments.instances)]
    router_port = arguments.first_port - 1
    me = [sys.executable, __file__, "--play", ",".join(map(str, ports)), "--shape", arguments.shape,
          "--events", str(arguments.events), "--block", str(arguments.block)]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            f"server: {{port: {router_port}, host: 127.0.0.1}}\n"
            f"scheduler: {{policy: ttft_aware, kv-events: 'on', cache-block-size: {arguments.block}}}\n"
            f"manager: {{health-check-interval-secs: 3600}}\nlog: {{output: file, path: {folder}/router.log}}\n"
        )
        fleet = subprocess.Popen(me, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        router = subprocess.Popen([sys.executable, "-m", "fd_router", "--config_path", str(config)])
        try:
            assert fleet.stdout is not None
            assert fleet.stdin is not None
            fleet.stdout.readline()
            wait_for(router_port)
            for port in ports:
                register(router_port, port)
            time.sleep(SETTLE_SECS)
            idle = share(router.pid, arguments.secs)
            fleet.stdin.write(b"go\n")
            fleet.stdin.flush()
            time.sleep(SETTLE_SECS)
            before = metrics(router_port, "fd_router_kv_events_total")
            begun = time.monotonic()
            busy = share(router.pid, arguments.secs)
            events = (metrics(router_port, "fd_router_kv_events_total") - before) / (time.monotonic() - begun)
            lost = metrics(router_port, "fd_router_kv_event_gaps_total")
            blocks = metrics(router_port, "fd_router_kv_event_blocks")
        finally:
            for process in (router, fleet):
                process.terminate()
                process.wait(20)
    print(f"{arguments.instances} instances, {arguments.shape}, blocks of {arguments.block} tokens, {blocks:.0f} held")
    print(f"events/s {events:.0f}, gaps {lost:.0f}")
    print(f"router: {idle:.2%} of a core idle, {busy:.2%} with events: {busy - idle:.2%}")
    print(f"{(busy - idle) / events * 1e6:.2f} us an event")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=64)
    parser.add_argument("--events", type=int, default=1000, help="a second, of each instance")
    parser.add_argument("--block", type=int, default=16, help="tokens of a block")
    parser.add_argument("--shape", choices=("vllm", "sglang"), default="vllm")
    parser.add_argument("--secs", type=float, default=10.0)
    parser.add_argument("--first-port", type=int, default=24500)
    parser.add_argument("--play", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        ports = [int(port) for port in arguments.play.split(",")]
        asyncio.run(play(ports, arguments.shape, arguments.events // BATCHES, arguments.block))
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
