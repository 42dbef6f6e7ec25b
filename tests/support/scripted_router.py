"""A router that answers as it is told, on a port of this machine, for the tests of an operator's commands."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = tuple[int, Any]
"""Status and body: bytes as they are, anything else as JSON."""


class ScriptedRouter:
    """Answers each "METHOD path" of ``answers``, one after the other where there is a list; notes what it is asked."""

    def __init__(self, answers: Mapping[str, Answer | list[Answer]], *, clock_ahead: float = 0.0) -> None:
        self.answers = dict(answers)
        self.asked: list[tuple[str, bytes]] = []
        self.authorizations: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.clock_ahead = clock_ahead
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def answer_to(self, line: str) -> Answer:
        answer = self.answers.get(line, (404, {"error": {"message": f"There is nothing at {line.split()[1]}"}}))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        router = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                line = f"{self.command} {self.path}"
                router.asked.append((line, body))
                router.headers.append({name.lower(): value for name, value in self.headers.items()})
                router.authorizations.append(self.headers.get("authorization", ""))
                status, value = router.answer_to(line)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response_only(status)
                self.send_header("date", formatdate(time.time() + router.clock_ahead, usegmt=True))
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def entry(key: str, **values: Any) -> dict[str, Any]:
    """Return an instance as ``GET /instances`` shows it."""
    base = {
        "key": key, "url": f"http://{key}", "role": "mixed", "state": "healthy", "draining": False, "paused": False,
        "source": "register", "kept": False, "running": 0, "tokens": 0,
    }  # fmt: skip
    return base | values
