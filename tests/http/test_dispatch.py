"""Connections on their way from the supervisor to a worker: taken by one, whichever of them ends."""

from __future__ import annotations

import asyncio
import socket

from fd_router.http.dispatch import END, MAIN, Dispatcher, Inlet, Outlet


class Worker:
    """A worker's two ends."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.outlet = Outlet(ours, lambda: None)
        self.inlet = Inlet(theirs.detach())
        self.taken: list[socket.socket] = []
        self.is_lost = False
        self.inlet.on_lost = self.lose
        self.inlet.take(MAIN, self.taken.append)

    def lose(self) -> None:
        self.is_lost = True

    def die(self) -> None:
        """End as a process does."""
        self.inlet.close()
        for sock in self.taken:
            sock.close()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0.001)


async def started(number: int) -> tuple[list[Worker], Dispatcher]:
    workers = [Worker() for _ in range(number)]
    for worker in workers:
        worker.inlet.start(lambda worker=worker: len(worker.taken))  # type: ignore[misc]
    await settle()
    assert all(worker.outlet.is_ready for worker in workers)
    return workers, Dispatcher(lambda: [worker.outlet for worker in workers], MAIN)


def stop_reading(worker: Worker) -> None:
    """It is at something else, or about to end."""
    asyncio.get_running_loop().remove_reader(worker.inlet._sock)


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


async def test_what_a_worker_has_taken_is_its_own() -> None:
    (worker,), dispatcher = await started(1)
    client, connection = socket.socketpair()
    dispatcher.greet(connection)
    await settle()
    assert connection.fileno() < 0
    assert worker.outlet.connections == 1
    worker.taken[0].close()
    assert is_closed(client)
    client.close()
    worker.die()
    worker.outlet.close()


async def test_what_a_worker_did_not_come_to_take_another_one_does() -> None:
    workers, dispatcher = await started(2)
    first, second = workers
    stop_reading(first)
    client, connection = socket.socketpair()
    dispatcher.greet(connection)
    await settle()
    assert (first.taken, second.taken) == ([], [])
    first.die()
    await settle()
    assert len(second.taken) == 1
    second.taken[0].send(b"x")
    assert client.recv(1) == b"x"
    client.close()
    second.die()
    second.outlet.close()


async def test_what_it_has_taken_ends_with_it() -> None:
    """Something may have been read from it."""
    workers, dispatcher = await started(2)
    first, second = workers
    client, connection = socket.socketpair()
    asyncio.get_running_loop().remove_reader(first.outlet._sock)  # the word is there, and wasn't read yet
    dispatcher.greet(connection)
    await settle()
    assert len(first.taken) == 1
    first.die()
    first.outlet.close()
    await settle()
    assert second.taken == []
    assert is_closed(client)
    first.outlet.close()  # once more does nothing
    second.die()
    await settle()
    assert not second.outlet.is_ready
    client.close()
    client, connection = socket.socketpair()
    dispatcher.greet(connection)
    assert is_closed(client), "nobody is there"
    client.close()


async def test_the_end_is_told_behind_what_came_before_it() -> None:
    (worker,), dispatcher = await started(1)
    client, connection = socket.socketpair()
    dispatcher.greet(connection)
    worker.outlet.finish()
    await settle()
    assert len(worker.taken) == 1
    assert worker.inlet.is_over
    assert not worker.is_lost
    assert END == b"e"
    worker.outlet.close()
    await settle()
    assert not worker.is_lost, "it was told before"
    client.close()
    worker.die()
