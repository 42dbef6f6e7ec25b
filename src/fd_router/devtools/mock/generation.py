"""A completion's way through the engine model: from an HTTP call to tokens written as they come."""

from __future__ import annotations

import asyncio
import math
import time

from fd_router.devtools.engine_model.engine import Engine
from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.engine_model.runs import Run, Token
from fd_router.devtools.mock.completions import Answer, Made, Words, token_id, usage_of
from fd_router.devtools.mock.faults import Fault
from fd_router.devtools.mock.http_server import Call
from fd_router.devtools.mock.told_ids import NO_MEMBERS, ToldIds
from fd_router.errors import HttpError
from fd_router.http.messages import error_response


class EngineDriver:
    """Runs an engine model in real time, with one timer: each token goes to its generation when it is due.

    ``first_tokens`` came, ``ttft_secs`` after their requests in all, by the engine's time: what a busy machine adds to
    the way to and from the engine isn't in it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._due = math.inf
        self.first_tokens = 0
        self.ttft_secs = 0.0

    def submit(self, generation: Generation) -> Run:
        """Give a generation's prompt to the engine."""
        left = max(1, generation.max_tokens - generation.given)
        now = time.monotonic()
        run = self.engine.submit(generation.prompt, left, now, generation, prefilled=generation.prefilled)
        self._schedule()
        return run

    def abort(self, run: Run) -> None:
        """Stop working on ``run``."""
        self.engine.abort(run, time.monotonic())
        self._schedule()

    def close(self) -> None:
        """Let time stop."""
        if self._timer is not None:
            self._timer.cancel()

    def _pump(self) -> None:
        self._due = math.inf
        for token in self.engine.advance(time.monotonic()):
            if token.number == 1:
                self.first_tokens += 1
                self.ttft_secs += token.at - token.run.submitted_at
            generation = token.run.owner
            if isinstance(generation, Generation):
                generation.on_token(token)
        self._schedule()

    def _schedule(self) -> None:
        due = self.engine.next_event_at()
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        if due != math.inf:
            # libuv counts milliseconds; a timer rounded down would come too early and find nothing to do.
            delay = math.ceil((due - time.monotonic()) * 1000) / 1000
            self._timer = self._loop.call_later(delay, self._pump) if delay > 0 else self._loop.call_soon(self._pump)


class GenerationStats:
    """How generations ended, and those that haven't."""

    __slots__ = ("aborted", "disconnected", "finished", "ids", "live", "misfits")

    def __init__(self) -> None:
        self.live: set[Generation] = set()
        self.ids: set[str] = set()  # of the live ones; instances of a pair have no two with one id
        self.finished = 0
        self.aborted = 0  # by /v1/abort_requests
        self.disconnected = 0  # the client left first
        self.misfits = 0  # requests that had another beginning of the answer than was generated


class Generation:
    """One completion: its prompt, its client, and what of it has been written.

    ``fault`` is the one that strikes it, if any. ``given`` tokens were generated before, elsewhere: the answer
    tells them too. ``behind`` so many tokens, which are in the prompt, it goes on. The answer's first ``thoughts``
    tokens are these; the next one is the mark that ends them, which no client sees. ``told``: how ids are, if at all.
    """

    __slots__ = (
        "_answer", "_call", "_driver", "_fault", "_lag", "_reason", "_run", "_stats", "_told", "_usage_wanted",
        "_words", "behind", "engine_id", "given", "is_done", "max_tokens", "prefilled", "prompt", "stream",
        "thoughts",
    )  # fmt: skip

    def __init__(
        self, call: Call, answer: Answer, words: Words, driver: EngineDriver, stats: GenerationStats, *, prompt: Prompt,
        max_tokens: int, reason: str, stream: bool, usage_wanted: bool, engine_id: str, fault: Fault | None,
        given: int = 0, behind: int = 0, thoughts: int = 0, told: ToldIds | None = None,
    ) -> None:  # fmt: skip
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.stream = stream
        self.engine_id = engine_id
        self.given = given
        self.behind = behind
        self.thoughts = thoughts
        self._told = told
        self.prefilled: int | None = None  # another instance did the prefill, with so many cached tokens
        self.is_done = False
        self._call = call
        self._answer = answer
        self._words = words
        self._driver = driver
        self._stats = stats
        self._reason = reason
        self._usage_wanted = usage_wanted
        self._fault = fault
        self._lag = 0.0  # seconds that a slow fault has put between the engine and the client
        self._run: Run | None = None
        stats.live.add(self)
        stats.ids.add(engine_id)
        call.on_gone = self.on_gone

    @property
    def produced(self) -> int:
        """Tokens that there are: those given, and those that the engine has made."""
        return self.given + (self._run.produced if self._run is not None else 0)

    def is_named(self, name: str) -> bool:
        """Tell whether ``name`` is this generation's id, as the client, the engine or the answer knows it."""
        return name in {self.engine_id, self._answer.id, f"{self.engine_id}_0", f"{self._answer.id}_0"}

    def begin(self) -> None:
        """Begin, after the delay that a fault demands."""
        if self._head_secs:
            asyncio.get_running_loop().call_later(self._head_secs, self.start)
        else:
            self.start()

    @property
    def _head_secs(self) -> float:
        return self._fault.head_secs if self._fault is not None else 0.0

    def start(self) -> None:
        """Begin the answer and the work. A stream's head goes out at once, as engines do it."""
        if self.is_done:
            return
        self._open()
        self._submit()

    def _open(self) -> None:
        if self.stream:
            self._call.begin(200, "text/event-stream; charset=utf-8", request_headers(self._call))

    def _submit(self) -> None:
        self._run = self._driver.submit(self)

    def on_token(self, token: Token) -> None:
        """The engine made a token; write it, or let it wait when this generation is slow on purpose."""
        if self._fault is None or not self._fault.token_secs:
            self._emit(token)
            return
        self._lag += self._fault.token_secs
        asyncio.get_running_loop().call_later(self._lag, self._emit, token)

    def on_gone(self) -> None:
        """The client left: nobody wants the rest."""
        self._end()
        self._stats.disconnected += 1
        self._stop_run()

    def abort(self) -> None:
        """Stop on demand; the client gets what there is, with finish reason ``abort``."""
        self._stop_run()
        self._reason = "abort"
        self._stats.aborted += 1
        if self.stream and self._call.head_sent:
            self._close_stream([])
        else:
            self._respond()

    def fail(self, message: str) -> None:
        """End with an error: as an answer if none has begun, else as a stream's error event."""
        self._stop_run()
        self._end()
        if self._call.head_sent:
            self._call.send(self._answer.failure(message))
            self._call.end()
        else:
            response = error_response(HttpError(message))
            self._call.respond(response.status, response.body, headers=request_headers(self._call))

    def _emit(self, token: Token) -> None:
        if self.is_done or self._strike(token):
            return
        if self.stream:
            self._emit_event(token)
        elif token.is_last:
            self._stats.finished += 1
            self._respond()

    def _strike(self, token: Token) -> bool:
        """Do what the fault demands at this token; False if nothing."""
        fault = self._fault
        if fault is None or not (token.is_last or token.number > fault.after_tokens):
            return False
        if fault.kind == "cut_mid_body" and self.stream:
            self._cut(fault)
        elif fault.kind == "reschedule":
            self._give_back(fault, min(token.number, fault.after_tokens))
        elif fault.kind == "error_event":
            self.fail("injected fault: error event")
        else:
            return False
        return True

    def _give_back(self, fault: Fault, produced: int) -> None:
        """End as a decode instance does that has no memory for this request any more."""
        if fault.form == "error":
            self.fail("PD Error: injected fault: no memory left")
            return
        self._stop_run()
        self._reason = "pd_reschedule"
        if self.stream:
            self._close_stream([])
            return
        number = self.given + produced
        ids = [token_id(self.behind + each) for each in range(1, number + 1)]
        body = self._answer.whole(self._made(number, ids))
        self._end()
        self._call.respond(200, body, headers=request_headers(self._call))

    def _emit_event(self, token: Token) -> None:
        pieces = self._opening() if token.number == 1 else []
        if event := self._event(self.given + token.number):
            pieces.append(event)
        if token.is_last:
            self._stats.finished += 1
            self._close_stream(pieces)
        elif pieces:
            self._call.send(*pieces)

    def _opening(self) -> list[bytes]:
        """Return what a stream begins with: the role (chat), and the tokens given."""
        given = [event for number in range(1, self.given + 1) if (event := self._event(number))]
        if not self._answer.chat:
            return given
        told = self._told
        opening = self._answer.opening() if told is None else self._answer.opening_with(told.opening())
        return [opening, *given]

    def _event(self, number: int) -> bytes:
        """Return the event of a token; b"" for one that isn't told at all."""
        is_first, number = number == 1, number + self.behind
        told = None if self._told is None else self._told.token(token_id(number), is_first=is_first)
        word = self._words.token(number)
        if number <= self.thoughts:
            return self._answer.thought(word, told or NO_MEMBERS)
        if number == self.thoughts + 1 and self.thoughts:  # the mark behind the thoughts
            return b"" if told is None else self._answer.event_with(b"", told)
        return self._answer.event(word) if told is None else self._answer.event_with(word, told)

    def _made(self, tokens: int, ids: list[int] | None = None) -> Made:
        """Return so many tokens behind the prompt as an answer that isn't streamed has them."""
        thought = self._thought(tokens)
        shown = max(self.behind, self.thoughts + 1) if self.thoughts else self.behind
        text = self._words.text(self.behind + tokens - shown, shown)
        return Made(text, self._reason, self._usage(), ids, self._words.text(thought, self.behind))

    def _thought(self, tokens: int) -> int:
        """Return how many of so many tokens behind the prompt are thoughts."""
        return max(0, min(self.thoughts - self.behind, tokens))

    def _close_stream(self, pieces: list[bytes]) -> None:
        usage = self._usage() if self._usage_wanted else None
        self._end()
        self._call.send(*pieces, self._answer.closing(self._reason, usage))
        self._call.end()

    def _respond(self) -> None:
        body = self._whole_answer()
        headers = request_headers(self._call)
        fault = self._fault
        self._end()
        if fault is not None and fault.kind == "cut_mid_body":
            upto = fault.after_bytes if fault.after_bytes is not None else len(body) // 2
            self._call.respond(200, body, headers=headers, upto=min(upto, len(body) - 1))
            self._cut(fault)
        else:
            self._call.respond(200, body, headers=headers)

    def _whole_answer(self) -> bytes:
        return self._answer.whole(self._made(self.produced))

    def _cut(self, fault: Fault) -> None:
        self._end()
        self._stop_run()
        self._call.drop(reset=fault.how == "rst")

    def _stop_run(self) -> None:
        if self._run is not None:
            self._driver.abort(self._run)

    def _usage(self) -> dict[str, object]:
        cached = self._run.cached_tokens if self._run is not None else 0
        usage = usage_of(self.prompt.tokens, self.produced, cached)
        if self.thoughts:
            usage["completion_tokens_details"] = {"reasoning_tokens": self._thought(self.produced)}
        return usage

    def _end(self) -> None:
        self.is_done = True
        self._call.on_gone = None
        self._stats.live.discard(self)
        self._stats.ids.discard(self.engine_id)

    def __repr__(self) -> str:
        return f"<Generation {self.engine_id} {self._run!r}>"


def request_headers(call: Call) -> list[tuple[str, str]]:
    """Return the headers of every answer that echo the request's."""
    value = call.request.header(b"x-request-id")
    return [("x-request-id", value.decode("latin-1"))] if value else []
