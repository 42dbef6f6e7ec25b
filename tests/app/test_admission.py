"""What the router shows instances of a caller's credentials when it tells them to abort."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fd_router.app.admission import build_admission
from fd_router.app.runtime import build_runtime
from fd_router.config.loading import Config
from fd_router.http.body_budget import BodyBudget
from fd_router.http.messages import Request, RequestHead
from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.logging.text_log import RouterLog
from tests.support.live import with_options
from tests.support.telemetry_fakes import Outlet

CALL = Request(RequestHead("POST", "/v1/abort_requests", authorization=b"Bearer sk"), b"")


@pytest.mark.parametrize(
    ("access", "shown"),
    [
        ({}, b"Bearer sk"),
        ({"admin_token": "sk"}, b""),  # it is the router's own
        ({"admin_token": "sk", "forward_authorization": "always"}, b""),
        ({"forward_authorization": "never"}, b""),
        ({"register_token": "other"}, b"Bearer sk"),
    ],
)
async def test_a_callers_authorization_goes_on_unless_it_is_for_the_router(
    tmp_path: Path, access: dict[str, str], shown: bytes
) -> None:
    config = with_options(Config(), access=access)
    runtime = build_runtime(config, RouterLog(Sink(Outlet())))
    admission = build_admission(runtime, BodyBudget(1 << 20), None)
    assert admission.forwarded_from(CALL) == shown
    await asyncio.sleep(0)
