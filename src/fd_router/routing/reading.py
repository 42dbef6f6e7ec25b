"""Reading a routed request: what scheduling needs of its body, at once or, of a very large one, in slices."""

from __future__ import annotations

import asyncio

from fd_router.admission.api_key_gate import ApiKeyGate, KeyGrant
from fd_router.errors import BadRequestError, HttpError
from fd_router.http.pace import Pace
from fd_router.openai.body_check import check_body
from fd_router.openai.completion import Completion
from fd_router.openai.large_bodies import READ_AT_ONCE, UnusualBodyError, as_json_in_slices
from fd_router.routing.log_tags import request_tags
from fd_router.routing.phase import PREPARING
from fd_router.routing.waiting_request import WaitingRequest


class RequestThatIsRead(WaitingRequest):
    """What of a request's life comes before anything is chosen for it. Like ``RequestLife`` it has no ``__init__``."""

    __slots__ = ("_preparing",)

    _preparing: asyncio.Task[None] | None

    def start(self) -> None:
        """Read the request and send it where scheduling chooses."""
        body = self._request.body
        if len(body) > READ_AT_ONCE and len(body) > self._context.endpoint.read_at_once:
            self._preparing = asyncio.get_running_loop().create_task(self._start_slowly(body))
        elif (completion := self._read(body)) is not None:
            if self._grant is None:  # nearly always
                self._go_on(completion)
            else:
                self._let_in(completion, self._grant)

    async def _start_slowly(self, body: bytes) -> None:
        """Do the same with a very large body, in steps between which others have a turn."""
        try:
            shortening = await check_body(body, Pace().breathe, self._context.endpoint.container)
            await asyncio.sleep(0)
            if self._phase is PREPARING:
                await self._read_slowly(shortening.body(), shortening.unread)
        except HttpError as error:
            if self._phase is PREPARING:
                self._reject(error)
        except Exception as error:  # noqa: BLE001  nobody else would tell its client
            self.on_bug(error)
        self._preparing = None
        if self._phase is PREPARING and self._completion is not None:
            self._let_in(self._completion, self._grant)

    async def _read_slowly(self, body: bytes, unread: int) -> None:
        """Read ``body``, which lacks ``unread`` characters of text."""
        try:
            completion = self._read(body, unread)
        except UnusualBodyError:
            mended = await as_json_in_slices(body, Pace().breathe)
            completion = self._read(mended, unread) if self._phase is PREPARING else None
        if completion is not None:
            completion.replace_body(self._request.body)
            await asyncio.sleep(0)

    def _read(self, body: bytes, unread: int = 0) -> Completion | None:
        """Read the request in ``body``. Returns None when it has ended so. Raises UnusualBodyError."""
        request, context = self._request, self._context
        try:
            grant = self._identify_client(context.gate) if context.gate is not None else None
            completion = context.endpoint.read(body, request.head.headers)
            if unread:
                completion.has_more_text(unread)
            if grant is not None and not grant.must_ask:
                grant.begin(completion)
            if completion.transfer_member:
                self._check_transfer(completion)
        except UnusualBodyError:
            raise
        except HttpError as error:
            self._reject(error)
            return None
        except Exception as error:  # noqa: BLE001  a third party's way to read it
            self.record.tags = request_tags(request)
            self.on_bug(error)
            return None
        self._completion = completion
        return completion

    def _check_transfer(self, completion: Completion) -> None:
        """Raise BadRequestError for what would have an engine connect to where a client says."""
        name = completion.transfer_member
        if not self._context.live.current.proxy.client_transfer_members:
            message = f"{name}: only a router tells this to an engine; leave it out"
            raise BadRequestError(f"{message} (proxy.client-transfer-members lets it pass)", code="router_member")

    def _reject(self, error: HttpError) -> None:
        """End a request that can't be read, or isn't let in."""
        self.record.tags = request_tags(self._request)
        if error.code == "invalid_json":
            self._log_error(f"Failed to unmarshal request JSON: {error.message}")
        self._fail_locally(error)

    def _identify_client(self, gate: ApiKeyGate) -> KeyGrant:
        """Find out whose request it is. Raises HttpError."""
        self._grant = grant = gate.identify(self._request.head.authorization)
        self.record.key = grant.name
        return grant

    def _let_in(self, completion: Completion, grant: KeyGrant | None) -> None:
        """Go on with what has been read, once other routers have been asked where its key's limits are theirs too."""
        if grant is not None and grant.must_ask:
            self._preparing = asyncio.get_running_loop().create_task(self._go_on_if_let_in(grant, completion))
        else:
            self._go_on(completion)

    async def _go_on_if_let_in(self, grant: KeyGrant, completion: Completion) -> None:
        try:
            await grant.reserve(completion)
        except HttpError as error:
            if self._phase is PREPARING:
                self._reject(error)
        except Exception as error:  # noqa: BLE001  nobody else would tell its client
            self.on_bug(error)
        self._preparing = None
        if self._phase is PREPARING:
            self._go_on(completion)
        else:  # the client has left meanwhile
            grant.end(None)

    def _go_on(self, completion: Completion) -> None:
        """It is read: send it where scheduling chooses."""
        raise NotImplementedError
