"""The first half hour, typed as its page says: from the demo to a policy of one's own and a Grafana panel."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.tutorial import Block, Reader, blocks_of

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-half-hour.md"

DOCKER = f"""#!{sys.executable}
import os, re, sys
from pathlib import Path

# Prometheus as deploy/compose.yaml starts it, but without a container: it looks at this machine, and more often.
_, compose, _, file, up = sys.argv
assert (compose, up) == ("compose", "up")
given = (Path(file).parent / "prometheus" / "prometheus.yaml").read_text()
router = os.environ["FD_ROUTER_ADDRESS"]
config = given.replace("host.docker.internal:30000", router).replace("scrape_interval: 15s", "scrape_interval: 250ms")
assert config.count(router) == 1
config = re.sub("rule_files:.*", "", config)
Path("prometheus.yaml").write_text(config)
flags = ["--config.file=prometheus.yaml", "--storage.tsdb.path=prometheus-data"]
os.execvp("prometheus", ["prometheus", *flags, "--web.listen-address=127.0.0.1:" + os.environ["PROMETHEUS_PORT"]])
"""
"""Stands in for docker: there is none where tests run."""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus isn't installed (Debian: prometheus)")
def test_every_step(tmp_path: Path) -> None:
    demo, *blocks = blocks_of(PAGE)
    assert len(blocks) > 15
    assert "fd-router demo" in demo.code
    with ThreadPoolExecutor(1) as pool, Reader(tmp_path) as reader:
        shown = pool.submit(type_apart, demo, tmp_path / "demo")  # it has a fleet of its own
        (tmp_path / "deploy").symlink_to(ROOT / "deploy")  # as in a clone
        reader.install("docker", DOCKER)
        for block in blocks:
            reader.type(block)
        shown.result()


def type_apart(block: Block, folder: Path) -> None:
    folder.mkdir()
    with Reader(folder) as reader:
        reader.type(block)
