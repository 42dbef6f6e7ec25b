"""Two replicas in the test's own loop, over a server of the test's."""

from contextlib import AsyncExitStack, asynccontextmanager

from tests.support.live_router import LiveRouter
from tests.support.waiting import until

PREFIX = "prod"
"""Of their keys."""


@asynccontextmanager
async def two_replicas(tmp_path, **state):
    sections = {"state": {"key_prefix": PREFIX, "timeout_secs": 0.5, **state}}
    async with AsyncExitStack() as stack:
        both = [LiveRouter(tmp_path, "log.level", "debug", sections) for _ in range(2)]
        for each in both:
            await stack.enter_async_context(each)
        await until(lambda: all(is_in_step(each) for each in both))
        yield both


def is_in_step(router):
    sync = router.router._shared.sync
    return sync.is_up and len(sync.peers) == 2


async def share(one, two):
    """What one is told is known to two."""
    await one.add()
    await until(lambda: len(two.router._membership.registry.all()) == len(one.instances))
    assert b"fine" in await two.ask()


def works_again(*routers):
    return lambda: all("works again" in router.outlet.text and is_in_step(router) for router in routers)
