"""One fleet a module: its options stand in the module's FLEET. Its end checks that nothing is left counted."""

import pytest

from tests.support.fleet import Fleet


@pytest.fixture(scope="module")
def fleet(request):
    with Fleet(**getattr(request.module, "FLEET", {})) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def reset(request):
    """Let no test find faults, or instances that are down, because of the one before."""
    yield
    for value in request.node.funcargs.values():
        if isinstance(value, Fleet):
            value.reset()
