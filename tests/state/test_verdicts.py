"""What others found out of an instance's health."""

import msgspec

from fd_router.instances.registration import parse_registration
from fd_router.instances.registry import Registry
from fd_router.state.topics.verdicts import SharedVerdicts
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
