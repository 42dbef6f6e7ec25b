"""A Redis server of a test's own: at a Unix socket, or a free port, in memory, with bounded waits."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port

START_SECS = 30.0


def speaks_tls() -> bool:
    """Tell whether the server was built with TLS, as the client that comes with it shows."""
    program = shutil.which("redis-cli")
    if program is None:
        return False
    shown = subprocess.run([program, "--help"], check=False, capture_output=True, timeout=START_SECS)
    return b"--tls" in shown.stdout + shown.stderr


class RedisServer:
    """Starts it when it is entered; ``stop`` and ``start`` again make it a server that has forgotten everything."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self.configuration = ""  # a file's path, for what options can't say
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server isn't installed (Debian: apt-get install redis-server)"
        self.process = subprocess.Popen(
            [
                program, *filter(None, [self.configuration]), "--port", str(self.port), "--bind", "127.0.0.1",
                "--save", "", "--appendonly", "no", "--dir", self._folder.name, *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + START_SECS
        while not self._answers():
            if time.monotonic() > until or self.process.poll() is not None:
                raise TimeoutError("redis-server never answered")
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as sock:
                sock.sendall(b"PING\r\n")
                return bool(sock.recv(64))
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def stop(self) -> None:
        """End it in order, by SIGTERM."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)
