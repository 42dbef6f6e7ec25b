from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from fd_router.admission import api_key_store, key_file
from fd_router.admission.api_key_store import ApiKeyStore
from fd_router.admission.key_file import KeyFile
from fd_router.admission.keys import ApiKey, entry, hash_key, make_key, read_keys
from fd_router.admission.priorities import Priorities
from tests.support.fake_log import FakeLog
from tests.support.waiting import until


def written(path: Path, *names: str) -> ApiKeyStore:
    path.write_text("keys:\n" + "".join(entry(name, hash_key(make_key())) for name in names))
    return ApiKeyStore(path, Priorities({"normal": 1}), lambda: 0.0)


async def test_one_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    log, path = FakeLog(), tmp_path / "keys.yaml"
    store = written(path, "one", "two")
    keys = KeyFile(store, 5.0, log)
    assert await keys.reload() == ()
    assert log.lines == [("info", f"API keys loaded: 2 from {path}")]
    path.write_text("keys: [")
    (problem,) = await keys.reload()
    assert log.lines[1:] == [("error", f"API keys not reloaded, those in force stay: {problem}")]
    assert len(store.all()) == 2


async def test_a_change_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    store = written(path, "one")
    keys = KeyFile(store, 0.01, FakeLog())
    await keys.reload()
    watch = asyncio.create_task(keys.watch())
    written(path, "one", "two")
    await until(lambda: len(store.all()) == 2)
    watch.cancel()


async def test_none_is_looked_for_where_that_is_not_wanted(tmp_path: Path) -> None:
    await asyncio.wait_for(KeyFile(written(tmp_path / "keys.yaml"), 0, FakeLog()).watch(), 1)


async def test_a_change_that_takes_too_long_to_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network mount that is away for a while, for one."""
    path, comes_back = tmp_path / "keys.yaml", threading.Event()
    store = written(path, "one")
    await KeyFile(store, 5.0, FakeLog()).reload()
    written(path, "one", "two")

    def read_slowly(*_: object) -> Sequence[ApiKey]:
        assert comes_back.wait(60)
        return read_keys(path, ("normal",))

    monkeypatch.setattr(key_file, "READ_SECS", 0.01)
    monkeypatch.setattr(api_key_store, "read_keys", read_slowly)
    (problem,) = await KeyFile(store, 5.0, FakeLog()).reload()
    assert "can't be read within 0.01 s" in problem
    comes_back.set()
    monkeypatch.setattr(key_file, "READ_SECS", 60.0)
    watch = asyncio.create_task(KeyFile(store, 0.01, FakeLog()).watch())
    await until(lambda: len(store.all()) == 2)
    watch.cancel()
