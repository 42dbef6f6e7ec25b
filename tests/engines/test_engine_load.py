"""The gauges of three engines, as their pages have them."""

from __future__ import annotations

import pytest

from fd_router.engines.engine_load import EngineLoad, read_engine_load

FASTDEPLOY = b"""# HELP fastdeploy:num_requests_running Number of requests currently running
# TYPE fastdeploy:num_requests_running gauge
fastdeploy:num_requests_running 3.0
# TYPE fastdeploy:num_requests_waiting gauge
fastdeploy:num_requests_waiting 2.0
# TYPE available_gpu_block_num gauge
available_gpu_block_num 1234.0
"""

RANKS = b"""fastdeploy:num_requests_running{dp_rank="0",text="} 9"} 3.0
fastdeploy:num_requests_running{dp_rank="1"} 4 1395066363000
fastdeploy:num_requests_waiting{dp_rank="0"} 0
fastdeploy:num_requests_waiting{dp_rank="1"} 1
available_gpu_block_num{dp_rank="0"} 10
available_gpu_block_num{dp_rank="1"} 20"""

VLLM = b"""vllm:num_requests_running{engine="0",model_name="m"} 5.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 7.0
"""

SGLANG = b"""sglang:num_running_reqs{model_name="m"} 8.0
sglang:num_running_reqs_offline_batch{model_name="m"} 4.0
sglang:num_queue_reqs{model_name="m"} 2.0
"""


@pytest.mark.parametrize(
    ("page", "gauges"),
    [
        (FASTDEPLOY, EngineLoad(3, 2, 1234)),
        (RANKS, EngineLoad(7, 1, 30)),
        (VLLM, EngineLoad(5, 1)),
        (SGLANG, EngineLoad(8, 2)),
        (FASTDEPLOY + VLLM, EngineLoad(3, 2, 1234)),
        (FASTDEPLOY.replace(b"3.0", b"0"), EngineLoad(0, 2, 1234)),
        (FASTDEPLOY.replace(b"\n", b"\r\n"), EngineLoad(3, 2, 1234)),
        (FASTDEPLOY.replace(b"running 3.0", b"running NaN"), None),
        (FASTDEPLOY.replace(b"1234.0", b"-1"), EngineLoad(3, 2)),
        (FASTDEPLOY.replace(b"running 3.0", b"running"), None),
        (b"my_fastdeploy:num_requests_running 3\nfastdeploy:num_requests_waiting 2\n", None),
        (b"", None),
        (b"\xff\x00 not a page", None),
    ],
)
def test_gauges(page: bytes, gauges: EngineLoad | None) -> None:
    assert read_engine_load(page) == gauges
