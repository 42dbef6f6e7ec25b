from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from fd_router.admin.bundle import Bundle, default_name
from fd_router.admin.router_client import Address, RouterClient
from fd_router.config.loading import examine
from tests.support.ports import free_port
from tests.support.scripted_router import ScriptedRouter, entry

SECRETS = {
    "environment": "environment-token-0123456789", "file": "token-of-a-file-0123456789",
    "option": "an-option-0123456789",
    "key": "fdr-0123456789abcdefghijklmno", "source": "source-password-123", "url": "userinfo-123",
}  # fmt: skip


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read().decode()
        return found


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text(SECRETS["file"] + "\n")
    lines = [f"line {n} of {name}: {secret}" for n, (name, secret) in enumerate(SECRETS.items())]
    (tmp_path / "router.log").write_text("\n".join(["old", *lines, "[INFO] select worker (mixed): http://10.0.0.1:1"]))
    path = tmp_path / "config.yaml"
    path.write_text(
        f"server: {{port: 1, prot: 2}}\nlog: {{output: file, path: router.log}}\n"
        f"access: {{admin-token-path: token, register-token: {SECRETS['option']}}}\n"
        f"scheduler: {{tokenizer-url: 'http://me:{SECRETS['url']}@10.0.0.2:80'}}\n"
        f"instances: {{sources: {{'nowhere:Source': {{password: {SECRETS['source']}, path: fleet.json}}}}}}\n"
    )
    return path


def test_everything_but_secrets(config: Path, tmp_path: Path) -> None:
    environ = {"FD_ROUTER_ACCESS_ADMIN_TOKEN": SECRETS["environment"], "FD_ROUTER_LOG_LEVEL": "debug", "HOME": "/h"}
    report = examine(str(config), {}, {"FD_ROUTER_LOG_LEVEL": "debug"})
    answers = {
        "GET /health": (200, {"status": "healthy"}),
        "GET /instances": (200, {"instances": [entry("10.0.0.1:8000")]}),
        "GET /registered": (200, {"mixed": [{"url": "http://10.0.0.1:8000", "api-key": "told"}]}),
        "GET /metrics": (200, b"fd_router_instances 1\n"),
    }
    with ScriptedRouter(answers) as router:
        client = RouterClient(Address.parse(router.address), timeout_secs=5)
        names = Bundle(client, report, log_lines=7, environ=environ).write(tmp_path / "b.tar.gz")
    found = read(tmp_path / "b.tar.gz")
    assert set(found) == {f"b/{name}" for name in names}
    everything = "\n".join(found.values())
    assert not [name for name, secret in SECRETS.items() if secret in everything]
    assert "told" not in found["b/registered.json"]
    assert found["b/router.log"].startswith("line 0 of environment: (removed)\n")
    assert found["b/router.log"].endswith("[INFO] select worker (mixed): http://10.0.0.1:1")
    assert "FD_ROUTER_LOG_LEVEL=debug\n" in found["b/environment.txt"]
    assert "/h" not in found["b/environment.txt"]
    assert "# warning: " in found["b/configuration.yaml"]
    assert "fleet.json" in found["b/configuration.yaml"]
    assert "10.0.0.1:8000" in found["b/instances.json"]
    assert "wrong" in found["b/doctor.txt"]
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600


def test_without_a_router_or_a_configuration(tmp_path: Path) -> None:
    client = RouterClient(Address.parse(f"127.0.0.1:{free_port()}"))
    bundle = Bundle(client, None, log_lines=1, environ={})
    assert bundle.write(tmp_path / "b.tar.gz") == ["machine.txt", "environment.txt", "doctor.txt"]
    with pytest.raises(FileExistsError):
        bundle.write(tmp_path / "b.tar.gz")


def test_the_usual_name() -> None:
    assert default_name(lambda: 0.0).startswith("fd-router-bundle-19")
