from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.engines.dialects import Dialects
from fd_router.instances.registration import Registration, decode_registration, parse_registration, require_served
from fd_router.instances.registration_errors import RegistrationError, RegistrationSyntaxError, RoleNotServedError

LEAST: dict[str, Any] = {"role": "mixed", "host_ip": "10.0.0.1", "port": 8000}
PAIR: dict[str, Any] = {"role": "prefill"}


def test_the_least_that_is_accepted() -> None:
    registration = parse_registration(LEAST)
    assert registration == Registration(role="mixed", host_ip="10.0.0.1", port=8000, metrics_port=8000)
    assert registration.key == "10.0.0.1:8000"
    assert registration.url == "http://10.0.0.1:8000"


def test_everything_that_an_instance_sends() -> None:
    registration = decode_registration(
        b'{"role": "DECODE", "host_ip": "10.0.0.2", "port": "8001", "connector_port": "9001", "metrics_port": 7001,'
        b'"engine_worker_queue_port": ["6001", 6002], "transfer_protocol": ["ipc", "rdma"],'
        b'"rdma_ports": [7100, "7101"], "device_ids": [0, "1"], "tp_size": 4, "version": "v2", "is_paused": true,'
        b'"connected_decodes": [{"host_ip": "10.0.0.3"}], "new_key": {"seed": 9007199254740993}}'
    )
    assert registration == Registration(
        role="decode",
        host_ip="10.0.0.2",
        port=8001,
        connector_port=9001,
        engine_worker_queue_ports=(6001, 6002),
        transfer_protocol=("ipc", "rdma"),
        rdma_ports=("7100", "7101"),
        device_ids=("0", "1"),
        metrics_port=7001,
        tp_size=4,
        version="v2",
        is_paused=True,
        connected_decodes=({"host_ip": "10.0.0.3"},),
        extra={"new_key": {"seed": 9007199254740993}},
    )


@pytest.mark.parametrize(
    ("sent", "role"),
    [("mixed", "mixed"), ("PREFILL", "prefill"), ("Decode", "decode"), (0, "mixed"), (1, "prefill"), (2, "decode")],
)
def test_roles(sent: object, role: str) -> None:
    assert parse_registration(LEAST | {"role": sent}).role == role


@pytest.mark.parametrize(
    ("sent", "host_ip", "key"),
    [
        ("http://10.0.0.1", "10.0.0.1", "10.0.0.1:8000"),
        ("https://10.0.0.1", "10.0.0.1", "10.0.0.1:8000"),
        ("::1", "::1", "[::1]:8000"),
        ("[::1]", "::1", "[::1]:8000"),
        ("http://[2001:DB8:0:0::7]", "2001:db8::7", "[2001:db8::7]:8000"),
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.1:8000"),
        ("[::FFFF:a00:1]", "10.0.0.1", "10.0.0.1:8000"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1:8000"),
        ("https://0.0.0.0", "127.0.0.1", "127.0.0.1:8000"),
        ("::", "::1", "[::1]:8000"),
        ("http://[0:0::0]", "::1", "[::1]:8000"),
        ("::ffff:0.0.0.0", "127.0.0.1", "127.0.0.1:8000"),
    ],
)
def test_hosts(sent: str, host_ip: str, key: str) -> None:
    registration = parse_registration(LEAST | {"host_ip": sent})
    assert (registration.host_ip, registration.key, registration.url) == (
        host_ip,
        key,
        f"{'https' if sent.startswith('https') else 'http'}://{key}",
    )


@pytest.mark.parametrize(
    ("fields", "attribute", "value"),
    [
        ({"port": "08000"}, "port", 8000),
        ({"metrics_port": ""}, "metrics_port", 8000),
        ({"metrics_port": 0}, "metrics_port", 8000),
        ({"metrics_port": "0"}, "metrics_port", 8000),
        ({"metrics_port": None}, "metrics_port", 8000),
        ({"connector_port": 0}, "connector_port", 0),
        ({"connector_port": ""}, "connector_port", 0),
        ({"engine_worker_queue_port": "6001"}, "engine_worker_queue_ports", (6001,)),
        ({"engine_worker_queue_port": 0}, "engine_worker_queue_ports", ()),
        ({"engine_worker_queue_port": "6001,6002"}, "engine_worker_queue_ports", (6001, 6002)),
        ({"transfer_protocol": "ipc, rdma"}, "transfer_protocol", ("ipc", "rdma")),
        ({"transfer_protocol": None}, "transfer_protocol", ()),
        ({"rdma_ports": "7100,7101"}, "rdma_ports", ("7100", "7101")),
        ({"device_ids": ["0", 1, 2]}, "tp_size", 3),
        ({"device_ids": ["0", 1], "tp_size": 0}, "tp_size", 2),
        ({"tp_size": "8"}, "tp_size", 8),
        ({"version": 2}, "version", "2"),
        ({"is_paused": 1}, "is_paused", True),
        ({"connected_decodes": None}, "connected_decodes", ()),
        ({"device_ids": [3.0, "4"]}, "device_ids", ("3", "4")),  # FastDeploy's unit test has a float
        # What only pairs need isn't looked at in a mixed instance.
        ({"connector_port": 65536}, "connector_port", 0),
        ({"engine_worker_queue_port": "x"}, "engine_worker_queue_ports", ()),
        ({"rdma_ports": ["x"]}, "rdma_ports", ()),
    ],
)
def test_tolerated_forms(fields: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(parse_registration(LEAST | fields), attribute) == value


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"role": None}, "role is required"),
        ({"role": ""}, "role is required"),
        ({"role": "worker"}, "invalid role: worker"),
        ({"role": 3}, "invalid role: 3"),
        ({"role": -1}, "invalid role: -1"),
        ({"host_ip": None}, "host_ip is required"),
        ({"host_ip": ""}, "host_ip is required"),
        ({"host_ip": "node 1"}, "invalid host_ip: node 1"),
        ({"host_ip": "256.0.0.1"}, "invalid host_ip: 256.0.0.1"),
        ({"host_ip": "10.0.0.1:8000"}, "invalid host_ip: 10.0.0.1:8000"),
        ({"host_ip": "010.0.0.1"}, "invalid host_ip: 010.0.0.1"),
        ({"host_ip": "fe80::1%eth0"}, "invalid host_ip: fe80::1%eth0"),
        ({"host_ip": "10.0.0.1/x"}, "invalid host_ip: 10.0.0.1/x"),
        ({"port": None}, "port is required"),
        ({"port": ""}, "port is required"),
        ({"port": 0}, "invalid port: 0"),
        ({"port": 99999}, "invalid port: 99999"),
        ({"port": -80}, "invalid port: -80"),
        ({"port": "eighty"}, "invalid port: eighty"),
        ({"port": "8000 "}, "invalid port: 8000 "),
        ({"port": "٨٠٠٠"}, "invalid port: ٨٠٠٠"),
        ({"port": "1" * 5000}, f"invalid port: {'1' * 100}…"),
        (PAIR | {"connector_port": 65536}, "invalid connector_port: 65536"),
        (PAIR | {"engine_worker_queue_port": "x"}, "invalid engine_worker_queue_port: x"),
        (PAIR | {"engine_worker_queue_port": [6001, 70000]}, "invalid engine_worker_queue_port: 70000"),
        ({"transfer_protocol": ["ipc", "tcp"]}, "invalid protocol: tcp"),
        ({"transfer_protocol": "tcp"}, "invalid protocol: tcp"),
        (PAIR | {"rdma_ports": [7100, "0"]}, "rdma_ports[1] invalid port: 0"),
        (PAIR | {"rdma_ports": ["x"]}, "rdma_ports[0] invalid port: x"),
        ({"metrics_port": "x"}, "invalid metrics_port: x"),
        ({"port": "1\n[ERROR] forged"}, "invalid port: 1?[ERROR] forged"),
    ],
)
def test_broken_rules(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RegistrationError) as caught:
        parse_registration(LEAST | fields)
    assert type(caught.value) is RegistrationError
    assert caught.value.reason == reason
    assert caught.value.message == f"invalid InstanceInfo format: {reason}"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"role": ["mixed"]}, "role: expected a string or an integer, got a list"),
        ({"role": True}, "role: expected a string or an integer, got the boolean true"),
        ({"host_ip": 10}, "host_ip: expected a string, got the number 10"),
        ({"port": True}, "port: expected an integer or a string, got the boolean true"),
        ({"port": 8000.0}, "port: expected an integer or a string, got the number 8000.0"),
        ({"port": {}}, "port: expected an integer or a string, got an object"),
        ({"metrics_port": False}, "metrics_port: expected an integer or a string, got the boolean false"),
        ({"metrics_port": 0.0}, "metrics_port: expected an integer or a string, got the number 0.0"),
        ({"transfer_protocol": 1}, "transfer_protocol: expected a list, got the number 1"),
        ({"rdma_ports": [None]}, "each of rdma_ports: expected an integer or a string, got null"),
        ({"device_ids": [True]}, "each of device_ids: expected an integer or a string, got the boolean true"),
        ({"tp_size": "two"}, "tp_size: expected a small integer, got a string"),
        ({"tp_size": -1}, "tp_size: expected a small integer, got the number -1"),
        ({"version": []}, "version: expected a string, got a list"),
        ({"is_paused": "no"}, "is_paused: expected a boolean, got a string"),
        ({"connected_decodes": {}}, "connected_decodes: expected a list, got an object"),
    ],
)
def test_wrong_types(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RegistrationSyntaxError) as caught:
        parse_registration(LEAST | fields)
    assert caught.value.message == f"Invalid InstanceInfo JSON format: {reason}"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"x"', b"\xff", b'{"role": "\xff"}', b"[" * 100_000, b"{}x"]
)
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    with pytest.raises(RegistrationSyntaxError, match=r"."):
        decode_registration(body)


def test_what_is_nested_too_deep_is_refused() -> None:
    """Decoded near the recursion limit, it could be impossible to encode again for /decode_instances."""
    deep = msgspec.json.encode(LEAST)[:-1] + b',"x":' + b"[" * 80 + b"]" * 80 + b"}"
    with pytest.raises(RegistrationSyntaxError, match="nested deeper"):
        decode_registration(deep)


@pytest.mark.parametrize("value", ["\ud800", {1, "x"}.__iter__(), 2**70 * 1j])
def test_what_could_not_be_shown_again_is_refused(value: object) -> None:
    """YAML can hold what JSON can't."""
    with pytest.raises(RegistrationSyntaxError):
        parse_registration(LEAST | {"x": value})


def test_a_number_too_long_to_print() -> None:
    with pytest.raises(RegistrationError, match="invalid port: a huge number"):
        parse_registration(LEAST | {"port": 1 << 20_000})


def test_the_required_keys_are_checked_in_order() -> None:
    for fields, reason in [
        ({}, "role is required"),
        ({"role": "mixed"}, "host_ip is required"),
        ({"role": "mixed", "host_ip": "::1"}, "port is required"),
    ]:
        with pytest.raises(RegistrationError, match=reason):
            parse_registration(fields)


@pytest.mark.parametrize(
    ("role", "splitwise", "message"),
    [
        ("mixed", False, None),
        ("prefill", True, None),
        ("decode", True, None),
        ("mixed", True, "splitwise mode only supports PREFILL/DECODE instances"),
        ("prefill", False, "only MIXED instances are allowed"),
        ("decode", False, "only MIXED instances are allowed"),
    ],
)
def test_roles_and_modes(role: str, splitwise: bool, message: str | None) -> None:
    registration = parse_registration(LEAST | {"role": role})
    if message is None:
        require_served(registration, Dialects(), splitwise=splitwise)
        return
    with pytest.raises(RoleNotServedError) as caught:
        require_served(registration, Dialects(), splitwise=splitwise)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("dialect", "role", "message"),
    [
        ("fastdeploy", "decode", None),
        ("", "decode", None),
        ("openai", "mixed", None),
        (
            "fastdeply",
            "mixed",
            "invalid InstanceInfo format: invalid dialect: dialect 'fastdeply' isn't known; did",
        ),
        ("openai", "prefill", "instances of dialect 'openai' can't share a request as prefill and decode"),
    ],
)
def test_dialects(dialect: str, role: str, message: str | None) -> None:
    registration = parse_registration(LEAST | {"role": role, "dialect": dialect})
    assert parse_registration(registration.as_json()) == registration
    if message is None:
        require_served(registration, Dialects(), splitwise=role != "mixed")
        return
    with pytest.raises(RegistrationError) as caught:
        require_served(registration, Dialects(), splitwise=role != "mixed")
    assert caught.value.message.startswith(message)


def test_the_entry_of_registered_has_strings() -> None:
    registration = parse_registration(
        LEAST
        | {"connector_port": 9001, "engine_worker_queue_port": [6001, 6002], "rdma_ports": [7100], "device_ids": [0, 1]}
    )
    assert registration.as_registered() == {
        "url": "http://10.0.0.1:8000",
        "worker_type": "mixed",
        "connector_port": "9001",
        "engine_worker_queue_port": "6001,6002",
        "transfer_protocol": [],
        "rdma_ports": ["7100"],
        "device_ids": ["0", "1"],
        "metrics_port": "8000",
        "tp_size": 2,
    }
    assert parse_registration(LEAST).as_registered()["connector_port"] == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PORT = st.integers(1, 65535) | st.integers(1, 65535).map(str)
OPTIONAL_PORT = PORT | st.sampled_from([None, "", 0, "0"])
VALID: dict[str, st.SearchStrategy[Any]] = {
    "role": st.sampled_from(["mixed", "Prefill", "DECODE", 0, 1, 2]),
    "host_ip": st.ip_addresses().map(str) | st.ip_addresses().map(lambda ip: f"http://{ip}"),
    "port": PORT,
}
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "connector_port": OPTIONAL_PORT,
    "engine_worker_queue_port": OPTIONAL_PORT | st.lists(OPTIONAL_PORT, max_size=3),
    "transfer_protocol": st.lists(st.sampled_from(["ipc", "rdma"]), max_size=2) | st.just("ipc,rdma"),
    "rdma_ports": st.lists(PORT, max_size=4),
    "device_ids": st.lists(st.integers(0, 15) | st.integers(0, 15).map(str), max_size=4),
    "metrics_port": OPTIONAL_PORT,
    "tp_size": st.integers(0, 64) | st.none(),
    "version": st.text() | st.none(),
    "is_paused": st.booleans(),
    "connected_decodes": st.lists(JSON, max_size=2),
    "something_new": JSON,
}
KEYS = [*VALID, *OPTIONAL]


@given(st.fixed_dictionaries(VALID, optional=OPTIONAL))
def test_what_is_valid_survives_a_round_trip(fields: dict[str, Any]) -> None:
    registration = decode_registration(msgspec.json.encode(fields))
    assert decode_registration(msgspec.json.encode(registration.as_json())) == registration
    msgspec.json.encode(registration.as_registered())
    assert str(registration.port) == str(fields["port"])
    assert registration.extra == {k: v for k, v in fields.items() if k == "something_new"}


@given(JSON | st.dictionaries(st.sampled_from(KEYS) | st.text(), JSON))
def test_no_json_value_breaks_it(value: Any) -> None:
    message = ""
    try:
        registration = decode_registration(msgspec.json.encode(value))
    except RegistrationError as error:
        message = error.message
    else:
        msgspec.json.encode(registration.as_json())
    assert message.isprintable()  # so it can't forge a line of the log


@given(st.fixed_dictionaries(VALID, optional=OPTIONAL), st.sampled_from(KEYS), JSON)
def test_one_odd_value_breaks_nothing(fields: dict[str, Any], key: str, value: Any) -> None:
    try:
        registration = parse_registration(fields | {key: value})
    except RegistrationError:
        return
    assert parse_registration(registration.as_json()) == registration


@given(st.binary(max_size=200))
def test_no_bytes_break_it(body: bytes) -> None:
    with pytest.raises(RegistrationError):
        decode_registration(body)


def test_labels_are_short_texts_for_policies() -> None:
    given = {"zone": "a", "rack": 7, "spot": True, "x" * 100: "y" * 100}
    registration = parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000, "labels": given})
    assert registration.labels == {"zone": "a", "rack": "7", "spot": "true", "x" * 100: "y" * 100}
    assert registration.as_json()["labels"] == registration.labels
    assert parse_registration(registration.as_json()) == registration
    assert "labels" not in parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000}).as_json()


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ("zone=a", "labels: expected an object, got a string"),
        (["a"], "labels: expected an object, got a list"),
        ({"zone": ["a"]}, "labels.zone: expected a text, got a list"),
        ({"zone": None}, "labels.zone: expected a text, got null"),
        ({"": "a"}, "labels.: a name and its text have 1 to 100 and at most 100 characters"),
        ({"zone": "a" * 101}, "labels.zone: a name and its text have 1 to 100 and at most 100 characters"),
        ({str(number): "a" for number in range(33)}, "labels: 33 are too many, 32 are taken at most"),
    ],
)
def test_labels_that_are_refused(labels: object, complaint: str) -> None:
    with pytest.raises(RegistrationError) as raised:
        parse_registration({"role": "mixed", "host_ip": "10.0.0.1", "port": 8000, "labels": labels})
    assert raised.value.reason == complaint


def test_https_is_told_by_the_address_or_the_scheme() -> None:
    told = parse_registration(LEAST | {"host_ip": "https://10.0.0.1"})
    assert told == parse_registration(LEAST | {"host_ip": "10.0.0.1", "scheme": "https"})
    assert (told.scheme, told.as_json()["scheme"], told.as_registered()["url"]) == ("https", "https", told.url)
    assert parse_registration(told.as_json()) == told
    plain = parse_registration(LEAST | {"scheme": "http"})
    assert (plain.scheme, "scheme" in plain.as_json()) == ("", False)
    with pytest.raises(RegistrationError, match="invalid scheme: ftp: it may be http or https"):
        parse_registration(LEAST | {"scheme": "ftp"})


def test_models_are_one_text_or_a_list() -> None:
    one = parse_registration(LEAST | {"model": "big"})
    assert (one.models, one.as_json()["models"]) == (("big",), ("big",))
    several = parse_registration(LEAST | {"model": "big", "models": ["small", "big"]})
    assert several.models == ("big", "small")
    assert parse_registration(several.as_json()) == several
    assert "models" not in parse_registration(LEAST).as_json()
    for wrong, why in ((5, "expected a text"), ([""], "invalid model"), (["a\n"], "invalid model"), ({}, "a text")):
        with pytest.raises(RegistrationError, match=why):
            parse_registration(LEAST | {"models": wrong})


def test_the_keys_of_other_engines() -> None:
    told = parse_registration(LEAST | {"bootstrap_port": "8998", "kv_events": "tcp://*:5557"})
    assert (told.bootstrap_port, told.kv_events) == (8998, {"endpoint": "tcp://*:5557"})
    assert parse_registration(told.as_json()) == told
    events = {"endpoint": "tcp://[::1]:5557", "replay_endpoint": "tcp://10.0.0.1:5558", "topic": "", "dp_size": 2}
    assert parse_registration(LEAST | {"kv_events": events}).kv_events == events
    assert not {"bootstrap_port", "kv_events"} & parse_registration(LEAST).as_json().keys()


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"bootstrap_port": 70000}, "invalid bootstrap_port: 70000"),
        ({"kv_events": 5557}, "kv_events: expected a text or an object, got the number 5557"),
        ({"kv_events": "ipc:///tmp/x"}, "invalid kv_events.endpoint: ipc:///tmp/x: tcp://HOST:PORT is needed"),
        ({"kv_events": {"replay_endpoint": 5}}, "invalid kv_events.replay_endpoint: 5: tcp://HOST:PORT is needed"),
    ],
)
def test_keys_of_other_engines_that_are_refused(told: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RegistrationError) as raised:
        parse_registration(LEAST | told)
    assert raised.value.reason == complaint
