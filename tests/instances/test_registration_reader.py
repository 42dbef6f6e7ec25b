"""Heartbeats that say what was said before."""

import json

import pytest

from fd_router.instances import registration_reader
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.registration_reader import RegistrationReader


def body(port, **more):
    return json.dumps({"role": "mixed", "host_ip": "10.0.0.1", "port": port, **more}).encode()


def test_the_same_bytes_are_the_same_registration_and_others_are_read(monkeypatch):
    monkeypatch.setattr(registration_reader, "MOST", 3)
    reader = RegistrationReader()
    first = reader.read(body(1))
    assert reader.read(body(1)) is first
    assert reader.read(body(1, is_paused=True)).is_paused
    assert [reader.read(body(port)).port for port in range(1, 10)] == [*range(1, 10)]
    assert reader.read(body(1)) == first
    long = body(2, version="x" * registration_reader.MAX_BYTES)
    assert reader.read(long) is not reader.read(long)
    assert repr(reader) == "<RegistrationReader of 2>"


def test_what_is_refused_is_refused_each_time():
    reader = RegistrationReader()
    for _ in range(2):
        with pytest.raises(RegistrationError):
            reader.read(body(0))
