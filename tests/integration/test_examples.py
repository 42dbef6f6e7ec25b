"""The examples as their pages start them: FastDeploy's own files, copied as documented, and PD with prefixes."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess, ServerProcess, call
from tests.support.ports import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
CHAT = "/v1/chat/completions"
FAST = {"prefill_tokens_per_sec": 1_000_000, "decode_ms_per_token": 1}


def chat(text: str = "hello") -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 2}


@contextmanager
def documented_start(example: str, directory: Path, ports: dict[str, int]) -> Iterator[ServerProcess]:
    """Copy the example files as documented; only ports are others (``ports``: the file's → those here)."""
    config = directory / "config"
    shutil.copytree(EXAMPLES / example / "config", config)
    shutil.copy(config / "config.example.yaml", config / "config.yaml")
    if ports:
        text = (config / "register.example.yaml").read_text()
        for old, new in ports.items():
            assert text.count(f"port: {old}\n") + text.count(f'port: "{old}"\n') == 1
            text = text.replace(f"port: {old}\n", f"port: {new}\n").replace(f'port: "{old}"\n', f'port: "{new}"\n')
        (config / "register.yaml").write_text(text)
    port = free_port()
    arguments = ("--port", str(port), "--splitwise", "--config_path", "./config/config.yaml", "--host", "127.0.0.1")
    router = ServerProcess(*arguments, port=port, cwd=directory)
    try:
        yield router
    finally:
        router.end()


def wait_until_open(router: ServerProcess) -> None:
    """Wait for the port, and send nothing: the first request is the test's."""

    def is_open() -> bool:
        assert router.process.poll() is None, router.output
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", router.port)) == 0

    eventually(is_open)


def wait_until_registered(router: ServerProcess, wanted: dict[str, int]) -> None:
    eventually(lambda: router.call("GET", "/registered_number")[1] == wanted)


def test_with_default_workers_the_first_request_after_the_port_opens_is_served(tmp_path: Path) -> None:
    # Mixed mocks, whatever the file says of them: as a pair, they would insist on connectors that they really have.
    with MockProcess(**FAST) as prefill, MockProcess(**FAST) as decode:
        ports = {"8097": prefill.port, "8098": decode.port}
        with documented_start("run_with_default_workers", tmp_path, ports) as router:
            wait_until_open(router)
            status, body = call(router.port, "POST", CHAT, chat())
            assert (status, len(prefill.completions()), len(decode.completions())) == (200, 1, 1), body
            log = tmp_path / "logs" / "router.log"
            eventually(lambda: "Successfully registered instance from index 1" in log.read_text())


def test_with_a_configuration_alone_instances_register_themselves(tmp_path: Path) -> None:
    with documented_start("run_with_config", tmp_path, {}) as router, ExitStack() as stack:
        wait_until_open(router)
        assert call(router.port, "POST", CHAT, chat())[0] == 503
        for role in ("prefill", "decode"):
            stack.enter_context(MockProcess(role=role, router=f"127.0.0.1:{router.port}", **FAST))
        wait_until_registered(router, {"mixed": 0, "prefill": 1, "decode": 1})
        assert call(router.port, "POST", CHAT, chat())[0] == 200
        log = tmp_path / "logs" / "router.log"
        eventually(lambda: "Failed to read YAML file config/register.yaml" in log.read_text())


@pytest.mark.parametrize("name", ["config.example.yaml", "register.example.yaml"])
def test_both_examples_have_the_same_files(name: str) -> None:
    one, other = (EXAMPLES / each / "config" / name for each in ("run_with_config", "run_with_default_workers"))
    assert one.read_bytes() == other.read_bytes()


def test_pd_cache_aware_keeps_conversations_where_their_beginning_is(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "pd_cache_aware" / "config", tmp_path / "config")
    port = free_port()
    arguments = ("--port", str(port), "--host", "127.0.0.1", "--config_path", "config/config.yaml")
    with ServerProcess(*arguments, port=port, cwd=tmp_path) as router, ExitStack() as stack:
        options = {"router": f"127.0.0.1:{port}", **FAST}
        roles = ["prefill", "prefill", "decode", "decode"]
        mocks = [stack.enter_context(MockProcess(role=role, **options)) for role in roles]
        wait_until_registered(router, {"mixed": 0, "prefill": 2, "decode": 2})
        said = {name: f"{name} begins so. " * 20 for name in "ABCDEF"}
        for turn in range(4):
            for name in said:
                said[name] += f"Turn {turn} of {name}. " * 10
                assert router.call("POST", CHAT, chat(said[name]))[0] == 200
        log = tmp_path / "logs" / "router.log"
        eventually(lambda: log.read_text().count("final strategy") >= 24)
        lines = [line for line in log.read_text().splitlines() if "final strategy" in line]
        chosen = [line.partition("selected=")[2].partition(",")[0] for line in lines]
        assert len(chosen) == 24
        assert all(chosen[place::6] == [chosen[place]] * 4 for place in range(6))  # each conversation stays
        assert set(chosen) <= {mock.url for mock in mocks[:2]}
