from __future__ import annotations

from fd_router.config.origins import located


def test_a_problem_begins_with_where_its_option_was_given() -> None:
    origins = {"scheduler.policy": "c.yaml:3", "scheduler.policy-options": "c.yaml:4", "tls.key-path": "FD_ROUTER_X"}
    assert located(
        [
            "scheduler.policy: 'a:B': there is no module 'a'",
            "scheduler.policy-options.most: 'x' doesn't fit",
            "tls.key-path: a key without a certificate",
            "access.admin-token-path: none: no such file",
            "r.yaml:3: Failed to register instance from index 0: port is required",
        ],
        origins,
    ) == (
        "c.yaml:3: scheduler.policy: 'a:B': there is no module 'a'",
        "c.yaml:4: scheduler.policy-options.most: 'x' doesn't fit",
        "FD_ROUTER_X: tls.key-path: a key without a certificate",
        "access.admin-token-path: none: no such file",
        "r.yaml:3: Failed to register instance from index 0: port is required",
    )


def test_what_is_within_a_mapping_has_the_line_of_its_own() -> None:
    origins = {
        "discovery.dns": "c.yaml:3",
        "discovery.dns.a.example": "c.yaml:4",
        "discovery.dns.a.example.port": "c.yaml:5",
    }
    assert located(
        [
            "discovery.dns.a.example.port: 0",
            "discovery.dns.a.example.x: 1",
            "discovery.dns.b: 2",
            "discovery.dns needs it",
        ],
        origins,
    ) == (
        "c.yaml:5: discovery.dns.a.example.port: 0",
        "c.yaml:4: discovery.dns.a.example.x: 1",
        "c.yaml:3: discovery.dns.b: 2",
        "c.yaml:3: discovery.dns needs it",
    )
