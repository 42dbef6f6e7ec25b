from __future__ import annotations

from fd_router.telemetry.metrics.request import Metrics


def samples(metrics: Metrics, name: str) -> list[str]:
    return [line for line in metrics.render().decode().splitlines() if line.startswith(name)]


def test_first_tokens_sooner_and_later_than_predicted() -> None:
    metrics = Metrics()
    told = metrics.predictions.of("prefill")
    told.first_token(1.0, 1.25)
    told.first_token(1.0, 0.5)
    told.first_token(1.0, 0.75)
    name = "fd_router_ttft_prediction_error_seconds"
    assert samples(metrics, f"{name}_sum") == [
        f'{name}_sum{{direction="late",role="prefill"}} 0.25',
        f'{name}_sum{{direction="early",role="prefill"}} 0.75',
    ]
    assert f'{name}_bucket{{direction="early",le="0.25",role="prefill"}} 1.0' in samples(metrics, f"{name}_bucket")


def test_cached_tokens() -> None:
    metrics = Metrics()
    told = metrics.predictions.of("mixed")
    told.cached_tokens(100, 64)
    told.cached_tokens(0, 64)
    values = {
        name: samples(metrics, f"fd_router_cached_tokens_{name}_total")[0].rpartition(" ")[2]
        for name in ("predicted", "told", "error")
    }
    assert values == {"predicted": "100.0", "told": "128.0", "error": "100.0"}
    assert repr(told) == "<RolePredictions mixed>"


def test_nothing_is_shown_of_policies_that_predict_nothing() -> None:
    metrics = Metrics()
    metrics.predictions.of("mixed")
    assert not samples(metrics, "fd_router_cached_tokens")
