"""What happens beside the registry when an instance comes or goes."""

from __future__ import annotations

from pathlib import Path

from fd_router.app.membership import build_membership
from fd_router.app.runtime import build_runtime
from fd_router.http.connection_pool import Pools
from fd_router.instances.load_pages import metrics_address
from fd_router.instances.registration import parse_registration
from tests.support.live import live_config
from tests.support.rig import make_telemetry


async def test_one_that_comes_back_in_another_way_is_not_spoken_to_in_the_one_before() -> None:
    telemetry, _ = make_telemetry()
    runtime = build_runtime(live_config().current, telemetry.log)
    pools = Pools(runtime.live, runtime.sweeper, runtime.batcher)
    registry = build_membership(runtime, pools).registry
    told = {"role": "mixed", "host_ip": "10.0.0.1", "port": 8000}
    instance = registry.register(parse_registration(told))
    registry.remove(instance.key)
    late = pools.of(instance)  # by who found it before, and waited for something since
    again = registry.register(parse_registration({**told, "scheme": "https"}))
    assert pools.of(again) is not late
    assert pools.of(again).url == again.url == "https://10.0.0.1:8000"
    assert late.retired


async def test_its_metrics_are_asked_for_in_another_way_too_when_its_access_changes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key-of-embed")
    telemetry, _ = make_telemetry()
    config = live_config(instances={"connections": {"model:embed": {"api-key-path": str(tmp_path / "key")}}}).current
    runtime = build_runtime(config, telemetry.log)
    pools = Pools(runtime.live, runtime.sweeper, runtime.batcher)
    registry = build_membership(runtime, pools).registry
    told = {"role": "mixed", "host_ip": "10.0.0.1", "port": 8000, "metrics_port": 8001}
    instance = registry.register(parse_registration(told))
    assert pools.of(metrics_address(instance)).own_headers == {}
    registry.register(parse_registration({**told, "model": "embed"}))  # another model is served there from now on
    for address in (instance, metrics_address(instance)):
        assert pools.of(address).own_headers == {"authorization": "Bearer key-of-embed"}
