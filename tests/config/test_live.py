from msgspec.structs import replace

from fd_router.config.live import LiveConfig
from fd_router.config.loading import AdmissionConfig, Config, ProxyConfig


def test_a_subscriber_gets_its_section_at_once() -> None:
    seen: list[ProxyConfig] = []
    live = LiveConfig(Config(proxy=ProxyConfig(max_attempts=7)))
    live.subscribe(ProxyConfig, seen.append)
    assert [proxy.max_attempts for proxy in seen] == [7]


def test_only_subscribers_of_sections_that_change_are_told() -> None:
    proxies: list[ProxyConfig] = []
    admissions: list[AdmissionConfig] = []
    live = LiveConfig(Config())
    live.subscribe(ProxyConfig, proxies.append)
    live.subscribe(AdmissionConfig, admissions.append)
    live.replace(replace(live.current, admission=AdmissionConfig(max_queued=3)))
    assert [proxy.max_attempts for proxy in proxies] == [3]
    assert [admission.max_queued for admission in admissions] == [1000, 3]


def test_a_section_that_is_made_anew_with_the_same_values_is_no_change() -> None:
    seen: list[ProxyConfig] = []
    live = LiveConfig(Config())
    live.subscribe(ProxyConfig, seen.append)
    live.replace(Config(proxy=ProxyConfig()))
    assert len(seen) == 1


def test_who_is_told_of_one_section_sees_the_whole_new_configuration() -> None:
    live = LiveConfig(Config())
    seen: list[int] = []
    live.subscribe(ProxyConfig, lambda _: seen.append(live.current.admission.max_queued))
    live.replace(Config(proxy=ProxyConfig(max_attempts=1), admission=AdmissionConfig(max_queued=5)))
    assert seen == [1000, 5]


def test_it_shows_how_many_listen() -> None:
    live = LiveConfig(Config())
    live.subscribe(ProxyConfig, lambda _: None)
    live.subscribe(AdmissionConfig, lambda _: None)
    assert repr(live) == "<LiveConfig 2 subscribers>"
