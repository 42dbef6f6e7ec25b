"""Members of pairs, as they register."""

from types import SimpleNamespace

import pytest

from fd_router.engines.pairing import PairedRequest


def _member(role="prefill", host="10.0.0.1", port=8000, bootstrap=0, version="", tp=1, **transfer):
    return SimpleNamespace(
        role=role, host_ip=host, port=port, bootstrap_port=bootstrap, version=version, tp_size=tp, kv_transfer=transfer
    )


@pytest.fixture
def member():
    return _member


@pytest.fixture
def paired():
    def make(body, **more):
        return PairedRequest(body, "made-here", has_own_id=False, has_router_fields=False, stream=False, **more)

    return make
