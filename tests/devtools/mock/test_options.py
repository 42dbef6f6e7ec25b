import pytest

from fd_router.config.loading import declared, from_texts
from fd_router.devtools.mock.options import MockOptions
from fd_router.errors import ConfigError


def test_every_field_is_an_option_with_a_help_text():
    options = declared(MockOptions)
    assert [option.attribute for option in options] == list(MockOptions.__struct_fields__)
    assert all(option.option.help.endswith(".") for option in options)


def test_the_engine_gets_its_settings_in_seconds():
    engine = MockOptions(decode_ms_per_token=20, decode_ms_per_running=0.5, max_running=3).engine
    assert (engine.decode_secs, engine.decode_secs_per_running, engine.max_running) == (0.02, 0.0005, 3)


@pytest.mark.parametrize("router", ["somewhere", "host:", ":80"])
def test_the_router_is_a_host_and_a_port(router):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        from_texts(MockOptions, {"router": router})
    assert from_texts(MockOptions, {"router": "[::1]:80"}).router == "[::1]:80"


def test_faults_may_be_given_often():
    assert from_texts(MockOptions, {"fault": ["unhealthy", "slow:head_secs=1"]}).fault == (
        "unhealthy",
        "slow:head_secs=1",
    )
