"""A disaggregated fleet: one request goes to a prefill and a decode instance at once; the answer is decode's.

Before any byte has gone to the client, the failure of either leg means another pair without the guilty
instance. After that decode decides: a prefill that fails has no say any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from fd_router.config.live import LiveConfig
from fd_router.engines.fastdeploy import PairBody, PairInfos, generated_token_ids, is_rescheduled, retry_id
from fd_router.errors import BadRequestError, HttpError, NoInstanceError, Retry, SaturatedError, UpstreamError
from fd_router.http.client_stream import ClientStream
from fd_router.http.connection_pool import Pools
from fd_router.http.heads import ResponseHead
from fd_router.http.messages import Request
from fd_router.instances.instance import Instance
from fd_router.routing.context import RoutingContext
from fd_router.routing.in_flight import InFlight
from fd_router.routing.log_tags import request_tags
from fd_router.routing.pair_legs import DecodeLeg, PairLeg, PrefillLeg
from fd_router.routing.request import RoutedRequest
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.telemetry import Telemetry

MAX_RESCHEDULES = 3
"""How often a request that its decode instance gave back is scheduled again; FastDeploy's router does so as often."""

SelectPair = Callable[[RequestView, Collection[str]], tuple[Reservation[Instance], Reservation[Instance]]]
"""(request, keys of instances tried) → prefill and decode, counted. Raises NoInstanceError."""


class PairContext(RoutingContext):
    """What every pair exchange needs, built once."""

    __slots__ = ("infos", "make_id", "select_pair")

    def __init__(
        self,
        select_pair: SelectPair,
        connection_failed: Callable[[Instance, str], None],
        pools: Pools,
        telemetry: Telemetry,
        clock: Callable[[], float],
        live: LiveConfig,
        make_id: Callable[[], str],
        in_flight: InFlight | None = None,
    ) -> None:
        super().__init__(connection_failed, pools, telemetry, clock, live, in_flight)
        self.select_pair = select_pair
        self.make_id = make_id
        self.infos = PairInfos()


class PairRequest(RoutedRequest):
    """Forwards one request to a pair of instances."""

    __slots__ = ("_body", "_decode", "_has_begun", "_pairing", "_prefill", "_reschedules", "_sent_at", "_token_ids")

    def __init__(self, services: PairContext, request: Request, client: ClientStream, record: RequestRecord) -> None:
        RoutedRequest.__init__(self, services, request, client, record)
        self._pairing = services
        self._body: PairBody | None = None
        self._prefill: PrefillLeg | None = None
        self._decode: DecodeLeg | None = None
        self._has_begun = False  # bytes have gone to the client
        self._reschedules = 0
        self._token_ids: list[int] = []  # generated before the request was given back
        self._sent_at = 0.0

    def instances(self) -> tuple[Instance, ...]:
        """Return the instances that work on the request now: prefill, then decode, whose word counts."""
        return tuple(leg.instance for leg in (self._prefill, self._decode) if leg is not None)

    @property
    def engine_id(self) -> str:
        """The id that its instances know it by now: another one each time that it is scheduled again."""
        return retry_id(self._tracked_id, self._reschedules)

    # one attempt

    def _attempt(self) -> None:
        completion = self._completion
        if completion is None:
            return
        if self._body is None:
            self._body = self._make_body(completion.request_id, has_own=completion.has_router_fields)
        prefill, decode = self._pairing.select_pair(completion, self._tried)
        self.record.attempts += 1
        self._tell_choice(prefill.instance, decode.instance)
        self._prefill = prefill_leg = PrefillLeg(self, prefill, stream=completion.stream)
        self._decode = decode_leg = DecodeLeg(self, decode, stream=completion.stream)
        self._sent_at = self._services.clock()
        body = self._body_for(self._pairing.infos.of(prefill.instance.registration, decode.instance.registration))
        pools = self._services.pools
        prefill_leg.start(pools, self._request, body, self._pairing.live.current.proxy.prefill_timeout_secs)
        if self._is_full:
            decode_leg.pause()
        decode_leg.start(pools, self._request, body)

    def _make_body(self, request_id: str, *, has_own: bool) -> PairBody:
        request, new_id = self._request, ""
        if not request_id:  # one id for everything, unless the client has one for its own end
            new_id = self._pairing.make_id() if request.head.request_id else request.request_id
        try:
            body = PairBody(request.body, request_id, new_id, has_own=has_own)
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None
        if new_id:
            self._track(new_id)
            if request.head.request_id:
                self._tag(new_id)
        return body

    def _tag(self, new_id: str) -> None:
        """Log the id that was made here, which the instances' logs and the answer have."""
        if (completion := self._completion) is not None:
            self.record.tags = completion.tags = request_tags(self._request, new_id, completion.session_id)

    def _body_for(self, info: bytes) -> bytes:
        if self._body is None:
            return b""
        if self._reschedules:
            return self._body.for_retry(info, self._reschedules, self._token_ids)
        return self._body.for_pair(info)

    def _tell_choice(self, prefill: Instance, decode: Instance) -> None:
        record = self.record
        record.prefill, record.decode = prefill.url, decode.url
        self._notes.append(f"select worker (prefill): {prefill.url}, tokens: {prefill.tokens}")
        self._notes.append(f"select worker (decode): {decode.url}, count: {decode.running}")

    # being held up, abandoned

    def _pause_upstream(self) -> None:
        if self._decode is not None:
            self._decode.pause()

    def _resume_upstream(self) -> None:
        if self._decode is not None:
            self._decode.resume()

    def _release_all(self) -> None:
        """End both legs, but for a prefill that is still answering behind a decode that is done: it is drained."""
        prefill, decode = self._prefill, self._decode
        self._prefill = self._decode = None  # no cycles: what is over is freed at once
        if prefill is not None and not (decode is not None and decode.is_over and self._has_begun):
            prefill.cancel()
            self._release(prefill.decision)
        if decode is not None:
            decode.cancel()
            self._release(decode.decision)

    def _end_attempt(self) -> None:
        """End both legs of an attempt that came to nothing."""
        legs = (self._prefill, self._decode)
        self._prefill = self._decode = None
        for leg in legs:
            if leg is not None:
                leg.cancel()
                self._release(leg.decision)

    # what the legs tell

    def on_prefill_done(self, leg: PrefillLeg) -> None:
        """Give the prefill instance's counts back; it may still be answering."""
        self._telemetry.metrics.leg_began("prefill", self._services.clock() - self._sent_at)
        leg.decision.first_token()
        self._release(leg.decision)
        self._log_notes()

    def on_decode_begun(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """Pass decode's first bytes on."""
        self._has_begun = True
        self.record.first_byte_at = now = self._services.clock()
        self._telemetry.metrics.leg_began("decode", now - self._sent_at)
        if self.record.stream and head.status < 400:
            leg.decision.first_token()
        self._write_head(head, body, self._pair_headers(leg))
        if self._prefill is not None and self._prefill.decision.wants_usage:  # decode's answer tells of both
            self._watch_usage(body)

    def on_decode_data(self, data: bytes) -> None:
        """Pass more of decode's bytes on."""
        self._write_data(data)

    def on_error_event(self, leg: DecodeLeg) -> None:
        """Note whose fault it is: the client reads it in the stream."""
        self.record.flaw = "The stream has an error in it"
        self._telemetry.metrics.leg_failed(leg.role, "error_answer")
        self._telemetry.metrics.upstream_failed(leg.instance.url, "error_answer")
        self._log_failure(leg, "an error in the middle of the stream")

    def on_decode_whole(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """Pass the whole answer on, unless decode gave the request back."""
        if is_rescheduled(body):
            if self._reschedules >= MAX_RESCHEDULES:
                self._log_failure(leg, f"{_given_back(body)} after {MAX_RESCHEDULES} reschedules, which is the limit")
            elif self._reschedule(leg, body):
                return
        self.on_decode_begun(leg, head, body)
        self.on_decode_complete(leg)

    def on_decode_complete(self, leg: DecodeLeg) -> None:  # noqa: ARG002
        """Decode's answer is whole, and so is the client's."""
        if self._usage is not None and self._prefill is not None:
            self._tell_usage(self._prefill.decision)
        self._end("completed")

    def on_leg_refused(self, leg: PairLeg, head: ResponseHead, body: bytes) -> None:
        """Pass a 4xx on, once: it is about the request, and another pair would say the same."""
        if self._is_ended or (self._has_begun and leg is self._prefill):
            self._log_failure(leg, f"status {head.status}; the decode instance goes on")
            self._release(leg.decision)
            self._log_notes()
            return
        self._log_failure(leg, f"status {head.status}")
        self._has_begun = True
        self.record.first_byte_at = self._services.clock()
        self._end_attempt()
        self._write_head(head, body, self._pair_headers(leg))
        self._end("completed")

    def on_leg_failed(self, leg: PairLeg, error: UpstreamError) -> None:
        """Try another pair, or tell the client whose fault it was. Prefill's, when decode has begun, is only logged."""
        if self._is_ended or (self._has_begun and leg is self._prefill):
            self._log_failure(leg, f"{error.detail}; the decode instance goes on")
            self._telemetry.metrics.leg_failed(leg.role, error.reason)
            self._release(leg.decision)
            self._log_notes()
            return
        self._telemetry.metrics.leg_failed(leg.role, error.reason)
        self._telemetry.metrics.upstream_failed(error.instance, error.reason)
        self._log_failure(leg, error.detail)
        if self._has_begun:
            self._log_error(f"scanner error: {error.instance}: {error.detail}")
            self._end("failed")
        else:
            self._on_attempt_failed(leg, error)

    # steps

    def _on_attempt_failed(self, leg: PairLeg, error: UpstreamError) -> None:
        services, record = self._services, self.record
        self._end_attempt()
        if error.retry is Retry.ALWAYS:
            services.connection_failed(leg.instance, error.reason)
        attempt = f"attempt {record.attempts}/{services.live.current.proxy.max_attempts}"
        self._log_error(f"Request failed ({attempt}): {leg.role} {error.instance}: {error.detail}")
        refusal = _blame(leg, error)
        if self._exclude(leg.instance, error.reason):
            self._try_again(error.reason, refusal)
        else:
            self._fail_locally(refusal)

    def _try_again(self, reason: str, refusal: HttpError) -> None:
        self._telemetry.metrics.retried(reason)
        try:
            self._attempt()
        except SaturatedError:
            self._wait_again(refusal)
        except NoInstanceError:  # the failed one was the last: its failure says more
            self._fail_locally(refusal)
        else:
            self._log_notes()

    def _reschedule(self, leg: DecodeLeg, body: bytes) -> bool:
        """Schedule a request again that decode gave back. Returns False when there is no pair to take it."""
        so_far = generated_token_ids(body)
        known = self._token_ids
        self._token_ids = so_far if so_far[: len(known)] == known else known + so_far
        self._log_failure(leg, f"{_given_back(body)} after {len(self._token_ids)} tokens")
        self._reschedules += 1
        held = self._prefill, self._decode
        self._end_attempt()
        try:
            self._attempt()
        except NoInstanceError:
            self._prefill, self._decode = held
            return False
        self._log_notes()
        self._telemetry.metrics.retried("pd_reschedule")
        return True

    def _pair_headers(self, leg: PairLeg) -> bytes:  # noqa: ARG002
        if not self._pairing.live.current.proxy.expose_instances:
            return b""
        record = self.record
        return b"X-Router-Prefill-URL: %b\r\nX-Router-Decode-URL: %b\r\n" % (
            record.prefill.encode("ascii"), record.decode.encode("ascii"),
        )  # fmt: skip

    def _log_failure(self, leg: PairLeg, what: str) -> None:
        self._log_error(f"{leg.role.capitalize()} request failed for {leg.instance.url}: {what}")


def _given_back(body: bytes) -> str:
    """Say in which of its two ways decode gave a request back."""
    return "PD Error" if b"PD Error" in body else "pd_reschedule"


def _blame(leg: PairLeg, error: UpstreamError) -> UpstreamError:
    """Make the error that names the guilty leg."""
    blamed = UpstreamError(error.reason, error.detail, instance=error.instance, status=error.status)
    blamed.message = f"Failed to connect to backend service: {leg.role} instance {error.instance}: {error.detail}"
    blamed.said = error.said
    return blamed
