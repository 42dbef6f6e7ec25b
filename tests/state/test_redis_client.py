"""From options to a client: what is refused, and what a URL's parts become. Nothing is connected to."""

import pytest

from fd_router.config.state import StateConfig
from fd_router.errors import ConfigError
from fd_router.state.redis.client import open_client, shown
from tests.support.certificates import Certificates

MASTER = {"sentinel_master": "mine"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "redis://a,b"}, "state.url: several hosts"),
        ({"url": "redis://user:secret@[::1"}, "state.url: what is given has no host that can be read"),
        ({"url": "redis://a:port"}, "state.url: 'redis://a:port' names no server"),
        ({"url": "redis://a,:6379", **MASTER}, "state.url: 'redis://a,:6379' names no server: ':6379' is no host"),
        ({"url": "redis://a:x1", "cluster": True}, "state.url: 'redis://a:x1' names no server"),
        ({"url": "redis://a", "cluster": True, **MASTER}, "state.cluster: sentinels don't watch a cluster"),
        ({"url": "unix:///run/redis.sock", **MASTER}, "state.sentinel-master: needs state.url to begin with"),
        ({"url": "unix:///run/redis.sock", "cluster": True}, "state.cluster: needs state.url to begin with"),
        ({"url": "redis://a", "sentinel_password": "x"}, "state.sentinel-password: without state.sentinel-master"),
        ({"url": "redis://a", "ca_file": "ca.pem"}, "state.ca-file: is for TLS, but state.url begins with redis://"),
        ({"url": "rediss://a", "ca_file": "/none/ca.pem"}, "state.ca-file: /none/ca.pem: no such file or directory"),
        ({"url": "rediss://a", "key_file": "/none/key.pem"}, "state.key-file: a key without a certificate"),
        ({"url": "rediss://a", "cert_file": "/none/c.pem"}, "state.cert-file: /none/c.pem: no such file or directory"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options, told):
    with pytest.raises(ConfigError) as refused:
        open_client(StateConfig(**options), read_secs=1.0)
    assert told in str(refused.value)


def test_what_a_url_of_several_hosts_says_holds_for_each_of_them(tmp_path):
    made = Certificates(tmp_path)
    options = StateConfig(
        url="rediss://me:p%40ss,word@[::1]:7000,b/2", ca_file=str(made.authority_path), sentinel_password="s", **MASTER
    )
    pool = open_client(options, read_secs=3.0).connection_pool
    settings = pool.connection_kwargs
    assert (settings["username"], settings["password"], settings["db"]) == ("me", "p@ss,word", 2)
    assert settings["socket_timeout"] == 3.0
    sentinels = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
    places = [(each.connection_kwargs["host"], each.connection_kwargs["port"]) for each in sentinels]
    assert places == [("::1", 7000), ("b", 26379)]
    for each in sentinels:
        assert each.connection_kwargs["password"] == "s"
        assert each.connection_kwargs["socket_timeout"] == options.timeout_secs
        assert each.connection_kwargs["ssl_ca_certs"] == options.ca_file
        assert each.connection_kwargs["username"] is None


def test_what_is_shown_of_a_url_has_no_password():
    assert shown("redis://me:secret@a:1,b:2/0?password=secret") == "redis://a:1,b:2/0"
