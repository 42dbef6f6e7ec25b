"""What others found out of an instance's health."""

import msgspec

from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import PEERS, REGISTER_API
from fd_router.state.topics.verdicts import EVERY, SharedDowns, SharedVerdicts
from tests.support.fake_log import FakeLog
from tests.support.live import live_config

KEY = "10.0.0.1:8000"


def told(**verdicts):
    return msgspec.Raw(msgspec.msgpack.encode({KEY if key == "one" else key: is_up for key, is_up in verdicts.items()}))


def test_an_instance_that_another_finds_down_is_looked_at_here_until_that_one_finds_it_up_or_is_gone():
    registry, probed = Registry(clock=lambda: 0.0, log=FakeLog(), live=live_config()), []
    verdicts = SharedVerdicts(registry, probed.append, lambda: None)
    registry.register(parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000}))
    for process in "ab":
        verdicts.take(process, told(one=False, nobodys=False))
    assert len(probed) == 2
    assert (verdicts.is_down_elsewhere(KEY), verdicts.is_down_elsewhere("nobodys")) == (True, False)
    verdicts.take("a", told(one=True))
    assert verdicts.is_down_elsewhere(KEY)
    verdicts.forget("b")
    assert not verdicts.is_down_elsewhere(KEY)
    verdicts.take("a", told(one=False))
    registry.remove(KEY)
    assert not verdicts.is_down_elsewhere(KEY)


def test_what_a_process_never_could_reach_is_looked_at_by_the_others_and_by_one_that_came_later():
    registries = [Registry(clock=lambda: 0.0, log=FakeLog(), live=live_config()) for _ in range(2)]
    registration = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000})
    registries[0].register(registration, PEERS)  # which nobody has probed from there
    registries[1].register(registration, REGISTER_API)
    probed = []
    topics = []
    for registry in registries:
        verdicts = SharedVerdicts(registry, probed.append, lambda: None)
        topics.append((verdicts, SharedDowns(registry, verdicts)))
    (_, own), (verdicts, theirs) = topics

    def tell():
        told = [payload for _ in range(EVERY) if (payload := own.gather(whole=True)) is not None]
        assert len(told) == 1
        theirs.take("a", msgspec.Raw(told[0]))

    tell()
    assert verdicts.is_down_elsewhere(KEY)
    assert not probed, "it is no news: the next look is soon enough"
    registries[0].probe_succeeded(registries[0].get(KEY))
    tell()
    assert not verdicts.is_down_elsewhere(KEY)
    assert own.gather(whole=False) is None


def test_what_is_gone_at_a_process_is_not_down_there_for_ever():
    registry = Registry(clock=lambda: 0.0, log=FakeLog(), live=live_config())
    verdicts = SharedVerdicts(registry, lambda _: None, lambda: None)
    downs = SharedDowns(registry, verdicts)
    registry.register(parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000}))
    verdicts.take("a", told(one=False))
    verdicts.take("b", told(one=False))
    downs.take("a", msgspec.Raw(msgspec.msgpack.encode(["nobodys"])))  # it has dropped the one
    assert verdicts.is_down_elsewhere(KEY)
    downs.take("b", msgspec.Raw(msgspec.msgpack.encode([])))
    assert not verdicts.is_down_elsewhere(KEY)
