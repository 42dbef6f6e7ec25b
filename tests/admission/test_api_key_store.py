from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fd_router.admission.api_key_gate import ApiKeyGate
from fd_router.admission.api_key_store import MOST_RECENT, ApiKeyStore
from fd_router.admission.keys import entry, hash_key, make_key
from fd_router.admission.priorities import Priorities
from fd_router.errors import AccessError, ConfigError, LimitError

PRIORITIES = Priorities({"high": 16, "normal": 4, "low": 1})


class RequestCost:
    def __init__(self, model: str = "m", tokens: int = 0) -> None:
        self.model = model
        self.tokens = tokens


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def write(path: Path, keys: dict[str, str], more: str = "") -> None:
    path.write_text("keys:\n" + "".join(entry(name, hash_key(key)) + more for name, key in keys.items()))


def bearer(key: str) -> bytes:
    return b"Bearer " + key.encode()


def make_ring(path: Path) -> ApiKeyStore:
    ring = ApiKeyStore(path, PRIORITIES, lambda: 0.0)
    ring.reload()
    return ring


def test_a_key_is_found_by_the_header(path: Path) -> None:
    one, other = make_key(), make_key()
    write(path, {"one": one, "other": other})
    ring = make_ring(path)
    for header in (bearer(one), b"bearer " + one.encode(), b"Bearer  " + one.encode() + b" "):
        found = ring.find(header)
        assert found is not None
        assert found.key.name == "one"
    assert ring.find(bearer(other)) is not ring.find(bearer(one))


def test_what_is_no_known_key(path: Path) -> None:
    key = make_key()
    write(path, {"one": key})
    ring = make_ring(path)
    digest = hashlib.sha256(key.encode()).hexdigest()
    for header in (b"", b"Bearer", b"Bearer ", b"Basic " + key.encode(), key.encode(), bearer(key + "x"),
                   bearer(key[:-1]), bearer(digest), bearer(make_key()), b"Bearer \xff\x00"):  # fmt: skip
        assert ring.find(header) is None


def test_nothing_shows_keys_or_hashes(path: Path) -> None:
    key = make_key()
    write(path, {"one": key})
    ring = make_ring(path)
    holder = ring.find(bearer(key))
    shown = f"{ring!r} {holder!r} {holder and holder.key!r} {list(ring.all())!r}"
    assert key not in shown
    assert hash_key(key) not in shown


def test_a_reload_takes_keys_in_and_out_and_keeps_what_was_used(path: Path) -> None:
    one, other = make_key(), make_key()
    write(path, {"one": one})
    ring = make_ring(path)
    held = ring.find(bearer(one))
    assert held is not None
    held.take(5, 0.0)
    write(path, {"one": one, "other": other}, "    max-concurrent: 1\n")
    assert ring.has_changed()
    assert ring.reload() == 2
    assert not ring.has_changed()
    assert ring.find(bearer(one)) is held
    with pytest.raises(LimitError):
        held.take(5, 0.0)
    write(path, {"other": other})
    ring.reload()
    assert ring.find(bearer(one)) is None
    held.give_back()  # a request of a key that is gone ends


def test_headers_of_many_forms_are_remembered_within_bounds(path: Path) -> None:
    key = make_key()
    write(path, {"one": key})
    ring = make_ring(path)
    for spaces in range(MOST_RECENT + 10):
        assert ring.find(b"Bearer " + b" " * spaces + key.encode()) is not None
    assert len(ring._recent) <= MOST_RECENT


def test_a_name_may_get_a_new_key(path: Path) -> None:
    old, new = make_key(), make_key()
    write(path, {"one": old})
    ring = make_ring(path)
    held = ring.find(bearer(old))
    write(path, {"one": new})
    ring.reload()
    assert ring.find(bearer(old)) is None
    assert ring.find(bearer(new)) is held


def test_an_invalid_file_changes_nothing(path: Path) -> None:
    key = make_key()
    write(path, {"one": key})
    ring = make_ring(path)
    path.write_text("keys: [{name: one}]")
    with pytest.raises(ConfigError):
        ring.reload()
    assert ring.find(bearer(key)) is not None
    assert not ring.has_changed(), "it is complained of once, not at every look"
    path.unlink()
    assert ring.has_changed()
    with pytest.raises(ConfigError):
        ring.reload()
    assert ring.find(bearer(key)) is not None


class TestGate:
    def make(self, path: Path, more: str = "") -> tuple[ApiKeyGate, str, list[str]]:
        key = make_key()
        write(path, {"team": key}, more)
        refusals: list[str] = []
        return ApiKeyGate(make_ring(path), lambda: 0.0, refusals.append), key, refusals

    def test_without_a_key_or_with_a_wrong_one(self, path: Path) -> None:
        gate, key, refusals = self.make(path)
        for header, code in ((b"", "missing_api_key"), (bearer(key + "x"), "invalid_api_key")):
            with pytest.raises(AccessError) as caught:
                gate.identify(header)
            error = caught.value
            assert (error.status, error.type, error.code) == (401, "invalid_request_error", code)
            assert error.headers == (("www-authenticate", "Bearer"),)
            assert key not in error.message
        assert refusals == ["key_missing", "key_unknown"]

    def test_a_visit_takes_and_gives_back_once(self, path: Path) -> None:
        gate, key, _ = self.make(path)
        visit = gate.identify(bearer(key))
        visit.end(None)  # it never came to a beginning
        visit.begin(RequestCost(tokens=60))
        assert (visit.name, visit.allowance.running, visit.allowance.tokens) == ("team", 1, 11)
        visit.end(None)
        visit.end(None)
        assert visit.allowance.running == 0

    def test_models(self, path: Path) -> None:
        gate, key, refusals = self.make(path, "    models: [m]\n")
        gate.identify(bearer(key)).begin(RequestCost("m"))
        for model in ("other", "", "M"):
            with pytest.raises(AccessError) as caught:
                gate.identify(bearer(key)).begin(RequestCost(model))
            assert (caught.value.status, caught.value.code, caught.value.headers) == (403, "model_not_allowed", ())
        assert refusals == ["model"] * 3
        assert gate.identify(bearer(key)).allowance.running == 1

    def test_limits(self, path: Path) -> None:
        gate, key, refusals = self.make(path, "    requests-per-minute: 1\n")
        gate.identify(bearer(key)).begin(RequestCost())
        with pytest.raises(LimitError):
            gate.identify(bearer(key)).begin(RequestCost())
        assert refusals == ["key_requests"]
        assert gate.identify(bearer(key)).allowance.refused == 1

    @pytest.mark.parametrize(
        ("total", "used"),
        [
            (7, 7),
            (250, 250),
            (None, 11),
        ],
    )
    def test_the_engines_usage_counts(self, path: Path, total: int | None, used: int) -> None:
        gate, key, _ = self.make(path, "    tokens-per-minute: 1000\n")
        visit = gate.identify(bearer(key))
        visit.begin(RequestCost(tokens=60))
        visit.end(total)
        assert visit.allowance.left() == (("tokens", 1000, 1000 - used),)
