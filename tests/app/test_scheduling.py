"""What the composition root gives policies."""

from __future__ import annotations

from pathlib import Path

from fd_router.app.router import Router
from fd_router.config.loading import Config, SchedulerConfig, ServerConfig
from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration
from fd_router.scheduling.load_table import VECTORIZE_ABOVE
from fd_router.telemetry.logging.factory import open_log
from tests.support.scheduling_fakes import FakeRequest


async def test_a_policy_of_a_large_fleet_reads_columns_that_the_instances_keep(tmp_path: Path) -> None:
    config = Config(server=ServerConfig(port=1), scheduler=SchedulerConfig(policy="request_num"))
    policy = Router(config, open_log(output="file", path=str(tmp_path / "log")))._scheduling.policies["mixed"]
    fleet = tuple(
        Instance(parse_registration({"role": "mixed", "host_ip": f"10.0.0.{number}", "port": 8000}))
        for number in range(VECTORIZE_ABOVE + 1)
    )
    for _ in range(2):
        policy.choose(FakeRequest(), fleet)
    assert all(instance.load_table is not None for instance in fleet)
