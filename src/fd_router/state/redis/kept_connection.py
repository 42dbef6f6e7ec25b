"""The kept connection: sends what the bus sends, and reads what it reads, up to a hundred times a second in all.

A command of the library's client costs several times what sending it and reading its answer does: a connection is taken
from a pool and given back, a time limit is a task, there is a retry that isn't wanted and a measurement that nobody
reads. Here a connection is the library's still, made as its client makes it (TLS, a password, the sentinels' word), but
kept from one command to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any


class KeptConnection:
    """A connection of ``client``, which has no time limits of its own: ``seconds`` is that of each command here."""

    __slots__ = ("_connection", "_pool", "_seconds")

    def __init__(self, client: Any, seconds: float) -> None:
        self._pool = client.connection_pool
        self._seconds = seconds
        self._connection: Any = None  # while no command is under way

    async def ask(self, *command: str | bytes | int) -> Any:
        """Send a command, and return the server's answer as it came. Who asks meanwhile has another connection.

        Raises the library's errors, and TimeoutError.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._ask(command)
        except TimeoutError:
            raise TimeoutError(f"no answer within {self._seconds:g} s") from None

    async def _ask(self, command: Sequence[str | bytes | int]) -> Any:
        connection, self._connection = self._connection, None
        if connection is None:
            connection = await self._pool.get_connection()
        is_whole = False
        try:
            await connection.send_command(*command, check_health=False)
            answer = await connection.read_response()
            is_whole = True
        finally:
            await self._keep(connection, is_whole=is_whole)
        return answer

    async def drop(self) -> None:
        """Connect anew for the next command: the sentinels may know of another master by then."""
        if (connection := self._connection) is not None:
            self._connection = None
            await self._keep(connection, is_whole=False)

    async def _keep(self, connection: Any, *, is_whole: bool) -> None:
        """Keep it, unless there is one. After a failure nobody knows what will come over it: it is connected anew."""
        if is_whole and self._connection is None:
            self._connection = connection
            return
        if not is_whole:
            await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    def __repr__(self) -> str:
        return f"<KeptConnection {'idle' if self._connection is not None else 'none'}>"
