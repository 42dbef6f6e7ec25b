from __future__ import annotations

from pathlib import Path

from fd_router.admission.checks import find_problems
from fd_router.config.loading import AccessConfig, AdmissionConfig


def test_the_defaults_have_none() -> None:
    assert find_problems(AccessConfig(), AdmissionConfig()) == ()


def test_all_of_them_at_once(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: [{}, {}]")
    access = AccessConfig(
        keys_path=str(keys), admin_token_path=str(tmp_path / "none"), register_networks="x", trusted_proxies="y"
    )
    problems = find_problems(access, AdmissionConfig())
    assert [problem.partition(": ")[0] for problem in problems] == [
        f"{keys}:1", f"{keys}:1", "access.admin-token-path", "access.register-networks",
        "access.trusted-proxies",
    ]  # fmt: skip
    assert find_problems(AccessConfig(), AdmissionConfig(priorities="high=1"))[0].startswith("admission.priorities")
