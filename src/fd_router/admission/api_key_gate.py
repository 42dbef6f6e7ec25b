"""The gate for inference requests: no request without a key, none beyond what its key allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fd_router.admission.allowance import Allowance
from fd_router.admission.api_key_store import ApiKeyStore
from fd_router.admission.shared_limits import SharedLimits
from fd_router.errors import AccessError, HttpError, LimitError

ESTIMATES_PER_TOKEN = 6
"""FastDeploy's estimate counts two for each character. A token is three characters or so: as many count against a key
until the engine tells."""

BYTES_PER_EVENT = 250
"""Of a stream, about: each token has an event of its own. So many count as a token where no usage is told, for else
whoever doesn't ask for it would generate without limit."""


class RequestCost(Protocol):
    """What a request asks for."""

    @property
    def model(self) -> str:
        """The model's name, "" when none is told."""

    @property
    def tokens(self) -> int:
        """The estimate of the prompt's tokens: two for each character."""


class KeyGrant:
    """One request that has shown its key. What ``begin`` takes ``end`` gives back, once."""

    __slots__ = ("_gate", "_holds", "_tokens", "allowance")

    def __init__(self, gate: ApiKeyGate, allowance: Allowance) -> None:
        self._gate = gate
        self.allowance = allowance
        self._holds = False
        self._tokens = 0

    @property
    def name(self) -> str:
        """The key's name."""
        return self.allowance.key.name

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters what the engine tells of the usage."""
        return self.allowance.key.tokens_per_minute > 0

    def begin(self, asked: RequestCost) -> None:
        """Check what is asked for, and count it. Raises AccessError (403) or LimitError (429)."""
        allowance, gate = self.allowance, self._gate
        tokens = self._tokens_of(asked)
        try:
            allowance.take(tokens, gate.clock())
        except LimitError as error:
            raise gate.refused(error, f"key_{error.kind}", allowance) from None
        self._holds = True
        self._tokens = tokens

    @property
    def must_ask(self) -> bool:
        """Whether the key's limits are kept together with other routers: then ``reserve`` and not ``begin``."""
        return self._gate.shared is not None and self.allowance.has_minute_limits

    async def reserve(self, asked: RequestCost) -> None:
        """Do what ``begin`` does, by the word of all routers, which takes a moment. Raises what ``begin`` does."""
        allowance, gate = self.allowance, self._gate
        assert gate.shared is not None
        tokens = self._tokens_of(asked)
        try:
            allowance.check_concurrent()
            allowance.running += 1
            try:
                await gate.shared.take(allowance, tokens)
            except BaseException:
                allowance.give_back()
                raise
        except LimitError as error:
            raise gate.refused(error, f"key_{error.kind}", allowance) from None
        allowance.count(tokens)
        self._holds = True
        self._tokens = tokens

    def _tokens_of(self, asked: RequestCost) -> int:
        """Return the tokens that are taken for a prompt. Raises AccessError for a model that the key may not use."""
        models = self.allowance.key.models
        if models is not None and asked.model not in models:
            raise self._gate.refused(_model_not_allowed(self.name, models), "model", self.allowance)
        return asked.tokens // ESTIMATES_PER_TOKEN + 1

    def end(self, total: int | None, sent: int = 0) -> None:
        """Give the place back. ``total``: tokens of prompt and answer, if the engine told them.

        ``sent``: bytes of the answer that the client got.
        """
        if not self._holds:
            return
        self._holds = False
        allowance = self.allowance
        allowance.give_back()
        if not self.counts_tokens:
            return
        more = total - self._tokens if total is not None else sent // BYTES_PER_EVENT
        allowance.correct(more)
        if self._gate.shared is not None:
            self._gate.shared.correct(allowance, more)

    def __repr__(self) -> str:
        return f"<KeyGrant {self.name} {'counted' if self._holds else 'not counted'}>"


class ApiKeyGate:
    """Lets requests in by their keys. ``on_refused`` is told a short reason for each that isn't let in."""

    __slots__ = ("_on_refused", "_store", "clock", "shared")

    def __init__(
        self,
        store: ApiKeyStore,
        clock: Callable[[], float],
        on_refused: Callable[[str], None],
        shared: SharedLimits | None = None,
    ) -> None:
        """``shared``: who keeps limits a minute together with other routers; None: this router is alone."""
        self.shared = shared
        self._store = store
        self.clock = clock
        self._on_refused = on_refused

    def identify(self, authorization: bytes) -> KeyGrant:
        """Find the holder of the key in the value of an Authorization header. Raises AccessError (401)."""
        allowance = self._store.find(authorization)
        if allowance is None:
            raise self.refusal(authorization)
        return KeyGrant(self, allowance)

    def knows(self, authorization: bytes) -> bool:
        """Tell whether that shows a key in force."""
        return self._store.find(authorization) is not None

    def refusal(self, authorization: bytes) -> HttpError:
        """Count a request without a key, or with another one, and return its answer."""
        return self.refused(_no_key(is_missing=not authorization), "key_unknown" if authorization else "key_missing")

    def refused(self, error: HttpError, reason: str, allowance: Allowance | None = None) -> HttpError:
        """Count a refusal, and return ``error`` to be raised."""
        self._on_refused(reason)
        if allowance is not None:
            allowance.refused += 1
        return error


def _no_key(*, is_missing: bool) -> AccessError:
    if is_missing:
        message = "You didn't provide an API key. Send one in a header: 'Authorization: Bearer YOUR_KEY'."
        return AccessError(message, code="missing_api_key")
    return AccessError("Incorrect API key provided. Check it, or ask the operator for another one.")


def _model_not_allowed(name: str, models: tuple[str, ...]) -> AccessError:
    allowed = ", ".join(models) or "none"
    message = f"The API key '{name}' may not use this model. It may use: {allowed}."
    return AccessError(message, status=403, code="model_not_allowed")
