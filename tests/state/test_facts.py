"""What engines tell of their caches, from the one that has asked to the others."""

from __future__ import annotations

import msgspec
import pytest

from fd_router.engines.cache_facts import CacheFacts
from fd_router.state.topics.facts import SharedFacts


def test_what_one_has_heard_goes_to_the_others_with_a_whole_frame() -> None:
    one, two, told = SharedFacts(), SharedFacts(), []
    two.on_told = lambda key, facts: told.append((key, facts))
    one.tell("a:1", CacheFacts(4096, 128, 2))
    one.tell("b:1", None)
    assert one.gather(whole=False) is None
    payload = one.gather(whole=True)
    assert payload is not None
    two.take("one", msgspec.Raw(payload))
    assert told == [("a:1", CacheFacts(4096, 128, 2)), ("b:1", None)]
    assert one.gather(whole=True) is None


@pytest.mark.parametrize("facts", [(-1, 0, 1), (0, 0, 0), (0, 0, 1 << 30), (1.5, 0, 1), "x"])
def test_what_no_engine_tells_is_refused(facts: object) -> None:
    two = SharedFacts()
    with pytest.raises(msgspec.MsgspecError):
        two.take("one", msgspec.Raw(msgspec.msgpack.encode({"a:1": facts})))
