from __future__ import annotations

import pytest

from fd_router.errors import (
    BadRequestError,
    ConfigError,
    FdRouterError,
    HttpError,
    NoInstanceError,
    Retry,
    SaturatedError,
    UpstreamError,
)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (HttpError("x"), 500, "internal_error", None),
        (HttpError("x", status=503, code="c"), 503, "internal_error", "c"),
        (BadRequestError("x"), 400, "invalid_request_error", None),
        (BadRequestError("x", status=413), 413, "invalid_request_error", None),
        (NoInstanceError("x"), 502, "service_unavailable", "no_instance"),
        (SaturatedError("x"), 503, "service_unavailable", "saturated"),
    ],
)
def test_what_a_client_sees(error: HttpError, status: int, kind: str, code: str | None) -> None:
    assert (error.status, error.type, error.code, error.message, error.headers) == (status, kind, code, "x", ())
    assert isinstance(error, FdRouterError)


def test_an_errors_own_status_is_not_its_kinds() -> None:
    BadRequestError("x", status=413, code="c")
    assert (BadRequestError.status, BadRequestError.code) == (400, None)


def test_an_upstream_error_names_the_instance_and_the_reason() -> None:
    error = UpstreamError("reset", "connection reset", instance="http://10.0.0.1:8000", retry=Retry.NEVER, status=504)
    assert str(error) == "Failed to connect to backend service: http://10.0.0.1:8000: connection reset"
    assert (error.status, error.code, error.reason, error.retry) == (504, "reset", "reset", Retry.NEVER)
    assert error.reason in UpstreamError.REASONS
    assert UpstreamError("refused", "x", instance="y").retry is Retry.ALWAYS
    assert UpstreamError("refused", "x", instance="y").status == 502


def test_a_config_error_has_a_line_a_problem() -> None:
    assert str(ConfigError("one", "two")) == "one\ntwo"
    assert ConfigError("one", "two").problems == ("one", "two")
