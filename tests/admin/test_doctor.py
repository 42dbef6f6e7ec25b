from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from fd_router import __version__
from fd_router.admin import machine_checks
from fd_router.admin.doctor import tell
from fd_router.admin.findings import Finding, Level, bad, good, odd
from fd_router.admin.router_checks import RouterChecks
from fd_router.admin.router_client import Address, RouterClient
from fd_router.app.config_checks import examine_with_files
from fd_router.config.loading import AccessConfig, Config, LogConfig, ServerConfig, TlsConfig
from tests.admin.test_certificates import pem
from tests.support.ports import free_port
from tests.support.scripted_router import Answer, ScriptedRouter, entry


def levels(findings: Iterable[Finding]) -> list[tuple[Level, str]]:
    return [(finding.level, finding.what) for finding in findings]


# this machine


def test_versions_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    ((level, what),) = levels(machine_checks.versions())
    assert level is Level.GOOD
    assert what.startswith(f"fd-router {__version__}, Python 3.")
    for most, expected in ((1024, Level.ODD), (1 << 20, Level.GOOD)):
        monkeypatch.setattr("resource.getrlimit", lambda _, most=most: (256, most))
        assert levels(machine_checks.open_files())[0][0] is expected


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, Level.GOOD),
        ({"http_proxy": ""}, Level.GOOD),
        ({"HTTPS_PROXY": "http://p:1"}, Level.ODD),
        ({"all_proxy": "http://p:1", "NO_PROXY": "127.0.0.1"}, Level.GOOD),
    ],
)
def test_proxies(environ: dict[str, str], level: Level) -> None:
    assert levels(machine_checks.proxies(environ))[0][0] is level


def test_the_configuration_as_check_config_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("server: {port: 1, prot: 2}\nscheduler:\n  policy: nowhere:P\n")
    findings = levels(machine_checks.configuration(examine_with_files(str(path), {}, {})))
    assert [level for level, _ in findings] == [Level.BAD, Level.ODD]
    assert findings[0][1].startswith(f"{path}:3: scheduler.policy: ")
    path.write_text("server: {port: 1}")
    assert levels(machine_checks.configuration(examine_with_files(str(path), {}, {})))[0][0] is Level.GOOD
    assert levels(machine_checks.configuration(None))[0][0] is Level.ODD


@pytest.mark.parametrize(("days", "level"), [(-400, Level.BAD), (1, Level.GOOD), (355, Level.ODD), (366, Level.BAD)])
def test_the_dates_of_certificates(tmp_path: Path, days: int, level: Level) -> None:
    begins = datetime.now(UTC)
    path = tmp_path / "cert.pem"
    path.write_text(pem(begins + timedelta(days=365)))
    config = Config(tls=TlsConfig(cert_path=str(path)))
    if days == -400:  # which is before trustme's certificates begin
        days = -365 * 30
    ((found, what),) = levels(machine_checks.certificates(config, lambda: begins + timedelta(days=days)))
    assert (found, what.startswith(f"tls.cert-path: {path} ")) == (level, True)


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    config = Config(tls=TlsConfig(upstream_ca_path=str(tmp_path / "none")))
    assert levels(machine_checks.certificates(config))[0][0] is Level.BAD


def test_room_for_the_log(tmp_path: Path) -> None:
    path = str(tmp_path / "logs" / "router.log")
    assert levels(machine_checks.disk(Config())) == []
    assert levels(machine_checks.disk(Config(log=LogConfig(output="file", path=path))))[0][1].startswith(
        f"{tmp_path} has"
    )
    huge = Config(log=LogConfig(output="file", path=path, max_total_size_mb=1 << 40))
    assert levels(machine_checks.disk(huge))[0][0] is Level.ODD


# a router


def check(router: ScriptedRouter, **options: float) -> list[tuple[Level, str]]:
    client = RouterClient(Address.parse(router.address))
    return levels(RouterChecks(client, **options).all())  # type: ignore[arg-type]


def scripted(**answers: Answer) -> dict[str, Answer]:
    base: dict[str, Answer] = {
        "GET /health": (200, {"status": "healthy"}),
        "GET /register": (405, {}),
        "GET /metrics": (200, f'fd_router_build_info{{version="{__version__}"}} 1\n'.encode()),
        "GET /instances": (200, {"instances": []}),
    }
    return base | {f"GET /{name}": answer for name, answer in answers.items()}


def test_a_router_and_its_instances() -> None:
    with ScriptedRouter({"GET /health": (200, b"")}) as instance, ScriptedRouter(scripted()) as router:
        router.answers["GET /instances"] = (200, {"instances": [entry(instance.address)]})
        found = check(router)
    assert {level for level, _ in found} == {Level.GOOD}
    assert f"the router at {router.url} is up" in [what for _, what in found]
    assert any(
        what.startswith(f"{instance.url} is healthy for the router; its /health answers 200") for _, what in found
    )


def test_half_a_fleet_can_serve_nobody() -> None:
    why = "no decode instance takes requests"
    with ScriptedRouter({"GET /health": (200, b"")}) as instance, ScriptedRouter(scripted()) as router:
        router.answers["GET /instances"] = (200, {"instances": [entry(instance.address, role="prefill")]})
        router.answers["GET /ready"] = (503, {"status": "not ready", "reason": why})
        findings = list(RouterChecks(RouterClient(Address.parse(router.address))).all())
    (finding,) = [finding for finding in findings if finding.level is Level.BAD]
    assert finding.what.endswith("but no request can be served")
    assert finding.mend == why


@pytest.mark.parametrize(
    ("config", "is_open"),
    [
        (Config(), True),
        (Config(server=ServerConfig(host="127.0.0.1")), False),
        (Config(server=ServerConfig(host="0.0.0.0")), True),
        (Config(access=AccessConfig(register_token="x")), False),
        (Config(access=AccessConfig(control_port=30001, control_host="127.0.0.1")), False),
        (Config(access=AccessConfig(control_port=30001, control_host="0.0.0.0")), True),
    ],
)
def test_who_may_register(config: Config, is_open: bool) -> None:
    assert [level for level, _ in levels(machine_checks.exposure(config))] == [Level.ODD] * is_open


def test_what_is_wrong_with_instances() -> None:
    gone = f"127.0.0.1:{free_port()}"
    with ScriptedRouter({"GET /health": (500, b"")}) as sick, ScriptedRouter({"GET /health": (200, b"")}) as well:
        entries = [
            entry(gone), entry(gone, state="unhealthy"), entry(sick.address), entry(well.address, draining=True),
            entry(well.address, paused=True), entry(well.address, readiness="unready", source="kubernetes x"),
        ]  # fmt: skip
        with ScriptedRouter(scripted(instances=(200, {"instances": entries}))) as router:
            client = RouterClient(Address.parse(router.address))
            findings = [x for x in RouterChecks(client).all() if "for the router" in x.what]
    assert [finding.level for finding in findings] == [Level.ODD, Level.BAD, Level.BAD, Level.ODD, Level.ODD, Level.ODD]
    assert "but not reached from here: Connection refused" in findings[0].what
    assert "its /health answers 500" in findings[2].what
    assert findings[3].mend == f"fd-router undrain {well.address}, when its maintenance is over"
    assert "it paused itself" in findings[4].mend
    assert findings[5].mend == "its source says so (kubernetes x): kubectl describe pod tells why"


def test_clocks() -> None:
    with ScriptedRouter(scripted(), clock_ahead=60) as router:
        (what,) = [what for _, what in check(router) if "clock" in what]
    assert what.startswith(f"the clock of {router.url} is ")


@pytest.mark.parametrize(
    ("answers", "level", "said"),
    [
        ({"health": (503, {"status": "draining"})}, Level.ODD, "is stopping"),
        ({"health": (404, b"")}, Level.BAD, "/health: status 404"),
        ({"register": (404, {})}, Level.BAD, "/register isn't there (status 404)"),
        ({"metrics": (200, b'fd_router_build_info{python="3",version="9.9"} 1\n')}, Level.ODD, "runs fd-router 9.9"),
        ({"metrics": (200, b"process_open_fds 90.0\nprocess_max_fds 100.0\n")}, Level.BAD, "has 90 of 100 files open"),
        ({"metrics": (200, b"fd_router_state_up 0.0\n")}, Level.BAD, "doesn't reach the server by which routers know"),
        ({"metrics": (200, b"fd_router_state_up 1.0\n")}, Level.GOOD, "is up"),
        ({"instances": (401, {"error": {"message": "no token"}})}, Level.ODD, "its instances can't be asked for"),
        ({"instances": (200, {"instances": []})}, Level.ODD, "no instance is known"),
    ],
)
def test_what_is_odd_about_a_router(answers: dict[str, Answer], level: Level, said: str) -> None:
    with ScriptedRouter(scripted(**answers)) as router:
        assert [found for found, what in check(router) if said in what] == [level]


def test_no_router() -> None:
    client = RouterClient(Address.parse(f"127.0.0.1:{free_port()}"))
    (finding,) = RouterChecks(client).all()
    assert finding.level is Level.BAD
    assert finding.mend.startswith("start the router")


def test_what_is_printed() -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, highlight=False)
    assert tell([good("a [b]"), odd("c", "d"), bad("e", "f")], console) == 1
    assert output.getvalue() == "✓ a [b]\n! c\n  → d\n✗ e\n  → f\n1 wrong, 1 to look at, 1 right\n"
    assert tell([good("a"), odd("c", "d")], console) == 0
