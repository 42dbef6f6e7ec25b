"""The feed: frames a second apart for all who look, and nothing left in anybody's way when the last one leaves."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest

from fd_router.admission.allowance import Allowance
from fd_router.admission.keys import ApiKey
from fd_router.api.dashboard.feed import Feed, Watched, hello_event
from fd_router.instances.changes import Change, ChangeKind
from fd_router.scheduling.decision_tap import DecisionTap
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.scheduler import Scheduler
from fd_router.telemetry.record import RequestRecord
from tests.support.fake_transport import FakeLoop
from tests.support.rig import make_instance, make_telemetry
from tests.support.scheduling_fakes import AskedGroup, FakeRequest
from tests.support.turns import slice_finely

PROMPT = "a prompt that nobody may read"


class Circuit(Enum):
    OPEN = "open"


class Outlet:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.leave: Callable[[], None] | None = None
        self.has_ended = False

    def send(self, events: bytes) -> bool:
        self.text += events.decode()
        for event in events.decode().strip().split("\n\n"):
            lines = dict(line.partition(": ")[::2] for line in event.splitlines())
            self.events.append((lines["event"], json.loads(lines["data"])))
        return True

    def end(self) -> None:
        self.has_ended = True
        if self.leave is not None:
            self.leave()


class Place:
    """A feed with one instance, a key, and a scheduler behind it."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.telemetry, _ = make_telemetry()
        self.tap = DecisionTap()
        self.instance, gone = make_instance(1), make_instance(2)
        key = Allowance(ApiKey(name="team-a", sha256="0" * 64, requests_per_minute=60), 0.0)
        candidates = [self.instance]
        policy = RequestNumPolicy(Environment(lambda: 0.0, random.Random(1)))
        self.scheduler = Scheduler[Any](AskedGroup(lambda: candidates), policy, str)
        self.tap.add(self.scheduler)
        watched = Watched(
            about=lambda: {"name": "r"},
            members=lambda: [self.instance],
            removed_in_use=lambda: [gone],
            circuits=lambda: [(self.instance, Circuit.OPEN)],
            cached_blocks=lambda url: 7,
            queue=lambda: {"normal": 2},
            keys=lambda: [key],
            inference=frozenset({"/v1/completions"}),
        )
        self.feed = Feed(
            watched, self.telemetry, self.tap, later=self.loop.call_later, clock=self.loop.time, wall_clock=lambda: 5.0
        )
        self.level: bool | None = True

    def look(self, *, sees_all: bool = True) -> Outlet:
        outlet = Outlet()
        first = hello_event({"x": 1}) + asyncio.run(self.feed.snapshot(sees_all=sees_all))
        outlet.leave = self.feed.watch(outlet, lambda: self.level if sees_all else False, first)
        return outlet

    def serve(self, status: int = 200) -> None:
        self.scheduler.select(FakeRequest(PROMPT))
        record = RequestRecord("POST", "/v1/completions", "c", 1.0, inference=True, status=status, attempts=1)
        record.mixed, record.first_byte_at, record.finished_at = self.instance.url, 1.25, 2.0
        record.outcome = "completed" if status < 400 else "failed"
        self.telemetry.finish(record)


def test_a_viewer_gets_a_frame_at_once_and_one_a_second() -> None:
    place = Place()
    outlet = place.look()
    assert [name for name, _ in outlet.events] == ["hello", "state"]
    assert "retry: 2000" in outlet.text
    place.serve()
    place.serve(502)
    place.loop.advance(2.0)
    first, second = (value for _, value in outlet.events[2:])
    assert (first["traffic"]["rate"], first["traffic"]["failed"], second["traffic"]["rate"]) == (2.0, 1.0, 0.0)
    assert first["traffic"]["ttft_ms"] == 250.0
    (one, gone) = first["instances"]
    assert (one["rate"], one["failed"], one["circuit"], one["cached_blocks"]) == (2.0, 1.0, "open", 7)
    assert (gone["state"], first["queue"]) == ("removed", {"normal": 2})
    assert first["keys"][0]["requests_left"] == 60
    assert [each["url"] for each in first["decisions"]] == [place.instance.url] * 2
    assert [each["status"] for each in first["troubles"]] == [502]
    assert second["decisions"] == second["troubles"] == []
    assert PROMPT not in outlet.text


def test_who_may_not_see_all_sees_the_fleet_and_its_traffic() -> None:
    place = Place()
    outlet = place.look(sees_all=False)
    place.serve(502)
    place.loop.advance(1.0)
    for _, frame in outlet.events[1:]:
        assert not frame.keys() & {"decisions", "troubles", "decisions_unseen", "troubles_unseen"}
    assert outlet.events[-1][1]["traffic"]["rate"] == 1.0


def test_nothing_is_in_the_way_while_nobody_looks() -> None:
    place = Place()
    policy, sinks = place.scheduler._policy, place.telemetry._finished
    one, other = place.look(), place.look()
    assert place.telemetry._finished != sinks
    assert one.leave is not None
    assert other.leave is not None
    one.leave()
    one.leave()
    assert place.feed.viewers == 1
    other.leave()
    assert place.scheduler._policy is policy
    assert place.telemetry._finished == sinks
    assert place.telemetry.metrics.observer is None
    assert place.loop.timers == []


def test_what_was_kept_is_there_for_who_comes_later() -> None:
    place = Place()
    first = place.look()
    place.serve(502)
    place.loop.advance(1.0)
    assert first.leave is not None
    first.leave()
    place.serve(502)  # nobody looks
    frame = place.look().events[1][1]
    assert (len(frame["decisions"]), len(frame["troubles"])) == (1, 1)
    assert "traffic" not in frame  # there is nothing to make a rate of yet


def test_nothing_is_told_twice_to_who_comes_later_or_between_two_frames() -> None:
    place = Place()
    place.feed.troubles.on_change(Change(ChangeKind.DOWN, place.instance))  # nobody looks yet
    one = place.look()
    place.serve(502)
    other = place.look()
    place.loop.advance(1.0)
    for outlet in (one, other):
        frames = [value for _, value in outlet.events[1:]]
        assert [trouble["kind"] for frame in frames for trouble in frame["troubles"]] == ["instance", "request"]
        assert sum(len(frame["decisions"]) for frame in frames) == 1


def test_who_may_see_less_than_before_has_to_ask_anew() -> None:
    place = Place()
    outlet = place.look()
    place.level = False
    place.loop.advance(1.0)
    assert outlet.has_ended
    assert len(outlet.events) == 2
    assert place.feed.viewers == 0


def test_a_scrape_between_two_frames_takes_nothing_from_them() -> None:
    place = Place()
    outlet = place.look()
    place.serve()
    assert b'http_requests_total{endpoint="/v1/completions"' in place.telemetry.metrics.render()
    place.serve()
    place.loop.advance(1.0)
    assert outlet.events[-1][1]["traffic"]["rate"] == 2.0


def test_a_frame_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    outlet = place.look()
    place.loop.advance(1.0)
    sent = len(outlet.events)
    with monkeypatch.context() as patch:
        patch.setattr(place.feed.troubles, "take", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            place.loop.advance(1.0)
    place.loop.advance(1.0)
    assert len(outlet.events) == sent + 1


def test_a_large_fleet_s_frame_is_made_in_slices_and_counts_for_who_is_there_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slice_finely(monkeypatch)
    place = Place()
    first, others = place.look(), []

    def change_places() -> None:
        assert first.leave is not None
        first.leave()
        others.append(place.look())

    place.loop.call_later(1.0, change_places)  # behind the first slice
    place.loop.advance(1.0)
    (second,) = others
    assert (len(first.events), len(second.events)) == (2, 2)  # that second's frame is nobody's any more
    place.serve()
    place.loop.advance(1.0)
    assert second.events[-1][1]["traffic"]["rate"] == 1.0
    place.loop.advance(1.0)
    assert len(second.events) == 4
