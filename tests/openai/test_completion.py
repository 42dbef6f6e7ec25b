"""What is read of a request's body, whatever clients put there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.errors import BadRequestError
from fd_router.openai import completion as completion_module
from fd_router.openai.completion import ESTIMATE_PER_ID, Completion, RequestFields
from fd_router.openai.json_body import fields_of
from fd_router.openai.large_bodies import LARGE
from fd_router.openai.request_fields import TRANSFER_MEMBERS


def read(**fields: Any) -> Completion:
    return Completion(json.dumps(fields).encode())


class TestPrompt:
    @pytest.mark.parametrize(
        ("fields", "prompt"),
        [
            ({}, ""),
            ({"prompt": " hi \n"}, "hi"),
            ({"prompt": ""}, ""),
            ({"prompt": ["a", " b "]}, "a b"),
            ({"prompt": ["a", 1, "b", [2]]}, "a b"),
            ({"prompt": None}, ""),
            ({"prompt": 5}, ""),
            ({"prompt": {"a": "b"}}, ""),
            ({"prompt": ["a", None, 1.5, "b"]}, "a b"),
            ({"messages": [{"role": "user", "content": " one "}, {"role": "assistant", "content": "two"}]}, "one two"),
            (
                {"messages": [{"content": "one"}, {"content": "  "}, {"content": None}, {}, {"content": "two"}]},
                "one two",
            ),
            ({"messages": [{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]}]}, "a b"),
            ({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text"}]}]}, ""),
            ({"messages": [{"content": [{"type": "input_text", "text": "a"}, {"text": "b"}]}]}, ""),
            ({"messages": [{"content": ["a", {"type": "text", "text": "b"}, {"type": "text", "text": 3}]}]}, "b"),
            ({"messages": [{"content": 5}, "text", None, {"content": "a"}]}, "a"),
            ({"messages": [{"content": {"text": "a"}}, {"content": "b"}]}, "b"),
            ({"messages": [], "prompt": "hidden"}, ""),
            ({"messages": None, "prompt": "seen"}, "seen"),
            ({"messages": "wrong", "prompt": "seen"}, "seen"),
            ({"messages": [{"content": "你好 🌍"}]}, "你好 🌍"),
        ],
    )
    def test_texts_are_stripped_and_joined(self, fields: dict[str, Any], prompt: str) -> None:
        completion = read(**fields)
        assert completion.prompt == prompt
        assert completion.tokens == 2 * len(prompt)


@pytest.mark.parametrize(
    ("value", "stream"),
    [
        (True, True), (1, True), (1.0, True), ("true", True), ("On", True), ("yes", True), ("1", True), ("t", True),
        (False, False), (None, False), (0, False), (2, False), ("false", False), ("off", False), ("", False),
        ([], False), ({}, False),
    ],
)  # fmt: skip
def test_stream(value: Any, stream: bool) -> None:
    completion = read(stream=value, prompt="a")
    assert completion.stream is stream
    assert completion.prompt == "a"


class TestTokensInFastDeploysField:
    @pytest.mark.parametrize("beside", [{}, {"messages": []}, {"messages": [{"content": "text"}]}, {"prompt": "text"}])
    def test_are_the_prompt(self, beside: dict[str, Any]) -> None:
        completion = read(prompt_token_ids=[5, 6, 7], **beside)
        assert list(completion.token_ids or ()) == [5, 6, 7]
        assert (completion.prompt, completion.tokens) == ("", 3 * ESTIMATE_PER_ID)

    def test_of_several_prompts(self) -> None:
        assert list(read(prompt_token_ids=[[1, 2], [3]]).token_ids or ()) == [1, 2, 3]

    @pytest.mark.parametrize("ids", [None, [], "1", 7, [-1], [1 << 40]])
    def test_are_left_to_the_instance_where_they_are_none(self, ids: Any) -> None:
        completion = read(prompt_token_ids=ids, prompt="text")
        assert completion.token_ids is None

    def test_of_the_wrong_kind_leave_the_text(self) -> None:
        assert read(prompt_token_ids="1", prompt="text").prompt == "text"


class TestSession:
    @pytest.mark.parametrize(
        ("fields", "session"),
        [
            ({"prompt_cache_key": "k"}, "k"),
            ({"prompt_cache_key": "k", "session_id": "s"}, "s"),
            ({"prompt_cache_key": "k", "session_id": "", "extra_body": {"session_id": "e"}}, "e"),
            ({"prompt_cache_key": "k", "session_id": 7}, "k"),
            ({"prompt_cache_key": 7}, ""),
        ],
    )
    def test_the_cache_key_is_one_where_there_is_no_other(self, fields: dict[str, Any], session: str) -> None:
        assert read(prompt="a", **fields).session_id == session


class TestIds:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("r-1", "r-1"),
            (17, "17"),
            (10**40, str(10**40)),
            (-3, "-3"),
            ("", ""),
            (None, ""),
            (True, ""),
            (1.5, ""),
            (["a"], ""),
            ({}, ""),
        ],
    )
    def test_values(self, value: Any, shown: str) -> None:
        completion = read(request_id=value, req_id=value, prompt="a")
        assert (completion.request_id, completion.req_id, completion.prompt) == (shown, shown, "a")

    @pytest.mark.parametrize(
        ("value", "shown"), [("s", "s"), ("", "inner"), (None, "inner"), (17, "inner"), ({}, "inner")]
    )
    def test_a_session_is_a_string_that_is_not_empty(self, value: Any, shown: str) -> None:
        assert read(session_id=value, extra_body={"session_id": "inner"}, prompt="a").session_id == shown

    def test_none_given(self) -> None:
        completion = read()
        assert (completion.request_id, completion.session_id) == ("", "")

    @pytest.mark.parametrize("extra", [{"session_id": "s"}, {"session_id": "s", "more": [1]}])
    def test_a_session_in_the_extra_body(self, extra: Any) -> None:
        assert read(extra_body=extra).session_id == "s"
        assert read(session_id="outer", extra_body=extra).session_id == "outer"

    @pytest.mark.parametrize("extra", [None, "s", [], {}, {"session_id": None}, {"session_id": [1]}])
    def test_an_extra_body_without_one(self, extra: Any) -> None:
        assert read(extra_body=extra).session_id == ""


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[]", "an array"),
        (b'"a"', "a string"),
        (b"true", "a boolean"),
        (b"1", "a number"),
        (b"1.5", "a number"),
        (b"NaN", "a number"),
        (b"null", "null"),
    ],
)
def test_only_an_object_is_a_request(body: bytes, kind: str) -> None:
    with pytest.raises(
        BadRequestError, match=f"Invalid JSON format: the body must be a JSON object, not {kind}"
    ) as raised:
        Completion(body)
    assert (raised.value.status, raised.value.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b'{"a": 1,}',
        b"{'a': 1}",
        b'{"prompt": "\xff"}',
        b'{"prompt": "a',
        b'{"prompt": "a\nb"}',
        b"\x00",
        b'{"messages": ' + b"[" * 100_000,
        b'{"other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"other": ' * 100_000,
        b"[" * 100_000,
        b'{"request_id": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError, match=r"^Invalid JSON format: "):
        Completion(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "a", "x": NaN}',
        b'{"prompt": "a", "x": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"prompt": "a", "x": ' + b"9" * 400 + b"}",
        b'{"prompt": "a", "x": 1e999}',
        b'\xef\xbb\xbf{"prompt": "a"}',
        b' \r\n\t{"prompt" : "a"} ',
        b'{"prompt": "z", "prompt": "a"}',
        b'{"prompt": "a", "stream": 1, "stream": null}',
        b'{"pr\\u006fmpt": "\\u0061"}',
        b'{"prompt": "a", "x": "\\ud800"}',
    ],
)
def test_what_engines_accept_is_read(body: bytes) -> None:
    assert Completion(body).prompt == "a"


def test_a_lone_surrogate_is_kept_as_it_is() -> None:
    assert Completion(b'{"prompt": "\xed\xa0\x80"}').prompt == "\ud800"
    completion = Completion(b'{"prompt": "\\ud800", "session_id": "\\udfff"}')
    assert (completion.prompt, completion.tokens, completion.session_id) == ("\ud800", 2, "\udfff")


texts = st.text('ab \n"\\\t\x00é你\u2028🌍', max_size=5)  # all of Unicode takes seconds to prepare
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "x"])}, optional={"text": texts, "y": texts}
)
contents = st.none() | texts | st.lists(parts, max_size=3)
messages = st.lists(st.fixed_dictionaries({}, optional={"content": contents, "role": texts}), max_size=4)
ids = st.none() | texts | st.integers(-(2**63), 2**63)
well_formed = st.fixed_dictionaries(
    {},
    optional={
        "stream": st.none() | st.booleans(),
        "messages": st.none() | messages,
        "prompt": st.none()
        | texts
        | st.lists(texts | st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2), max_size=3),
        "request_id": ids,
        "session_id": ids,
        "extra_body": st.none() | st.fixed_dictionaries({}, optional={"session_id": ids}),
        "temperature": st.floats(0, 2),
    },
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = ["stream", "messages", "prompt", "request_id", "session_id", "extra_body"]
odd = st.dictionaries(st.sampled_from(names), anything, max_size=6)


def told(completion: Completion) -> tuple[object, ...]:
    return (
        completion.prompt, completion.tokens, completion.token_ids, completion.stream, completion.request_id,
        completion.session_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([[1, 2], [3]], [1, 2, 3]),
        ([0, 2**32 - 1], [0, 2**32 - 1]),
        ([], None),
        ([[]], None),
        ([-1], None),
        ([2**32], None),
        ([1, "text"], None),
    ],
)
def test_a_prompt_of_tokens(prompt: list[object], ids: list[int] | None) -> None:
    completion = Completion(json.dumps({"prompt": prompt}).encode())
    assert (None if completion.token_ids is None else list(completion.token_ids)) == ids
    if ids is not None:
        assert (completion.prompt, completion.tokens) == ("", len(ids) * 6)


def test_messages_hide_a_prompt_of_tokens() -> None:
    completion = Completion(b'{"messages": [], "prompt": [1, 2]}')
    assert (completion.token_ids, completion.tokens) == (None, 0)


@given(well_formed)
def test_the_slow_way_reads_the_same(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    quick = told(Completion(body))

    def refuse(body: bytes) -> Any:
        raise completion_module.msgspec.DecodeError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion_module, "_decode", refuse)
        assert told(Completion(body)) == quick


@given(odd | st.dictionaries(texts, anything, max_size=3))
def test_no_object_is_refused(fields: dict[str, Any]) -> None:
    completion = Completion(json.dumps(fields).encode())
    assert isinstance(completion.prompt, str)
    assert isinstance(completion.stream, bool)
    assert isinstance(completion.request_id, str)
    assert isinstance(completion.session_id, str)


@given(st.binary(max_size=30))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        Completion(body)
    except BadRequestError as error:
        assert error.status == 400  # noqa: PT017 - both outcomes are fine, a third isn't


class TestWhatPoliciesMayAsk:
    """``user``, ``max_tokens`` and headers are looked at only when somebody asks, so odd values do no harm before."""

    @pytest.mark.parametrize(
        ("fields", "most"),
        [
            ({}, 0),
            ({"max_tokens": 7}, 7),
            ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
            ({"max_completion_tokens": None, "max_tokens": 5}, 5),
            ({"max_tokens": "7"}, 0),
            ({"max_tokens": True}, 0),
            ({"max_tokens": -1}, 0),
            ({"max_tokens": [7]}, 0),
            ({"max_tokens": 7, "messages": "which is read the tolerant way"}, 7),
        ],
    )
    def test_the_most_tokens(self, fields: dict[str, Any], most: int) -> None:
        assert read(**fields).max_tokens == most

    @pytest.mark.parametrize(
        ("fields", "user"),
        [
            ({}, ""),
            ({"user": "me"}, "me"),
            ({"user": 7}, ""),
            ({"user": "me", "messages": 1}, "me"),
            ({"user": {}}, ""),
        ],
    )
    def test_the_user(self, fields: dict[str, Any], user: str) -> None:
        assert read(**fields).user == user

    def test_headers(self) -> None:
        completion = Completion(b"{}", [(b"X-Tenant", b"one"), (b"x-tenant", b"two"), (b"accept", b"\xfc")])
        assert completion.header("x-TENANT") == "one"
        assert completion.header("Accept") == "ü"
        assert completion.header("x-other") is None
        assert read().header("x-tenant") is None


class TestLargeOddBodies:
    """What is beyond JSON's rules in a large body costs one pass, and is read all the same."""

    @pytest.mark.parametrize(
        "odd", [rb'"\\ud83d"', rb'"\\uDE00 x"', b"NaN", b"-Infinity", b'"\xed\xa0\x80"', rb'"\\ud83d\\ude00"'], ids=repr
    )
    def test_they_are_read_without_the_tolerant_decoder(self, odd: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fd_router.openai.completion.json.loads", None)  # which would hold the loop
        body = b'{"stream":true,"prompt":"%b","x":%b,"session_id":"s","y":[%b0]}' % (b"a" * LARGE, odd, b"[]," * 9)
        completion = Completion(body)
        assert (completion.prompt, completion.stream, completion.session_id) == ("a" * LARGE, True, "s")

    def test_values_of_unexpected_types_are_absent(self) -> None:
        body = b'{"stream":["yes"],"model":"m","prompt":{"a":1},"request_id":7,"x":"%b"}' % (b"a" * LARGE)
        completion = Completion(body)
        assert (completion.prompt, completion.stream, completion.model, completion.request_id) == ("", False, "m", "7")

    @pytest.mark.parametrize("wrong", [b"[%b]", b'{"prompt":"%b}', b'"%b"'])
    def test_what_is_no_object_is_refused(self, wrong: bytes) -> None:
        with pytest.raises(BadRequestError):
            Completion(wrong % (b"1" * (LARGE + 9)))


class TestTextsThatAreDropped:
    def test_a_large_prompt_is_read_again(self) -> None:
        body = b'{"messages": [{"content": "%b"}, {"content": "end"}]}' % (b"a" * 70_000)
        completion = Completion(body)
        before = completion.prompt
        completion.drop_texts()
        fields = completion._fields
        assert (completion._prompt, completion._texts, fields.messages, fields.prompt) == (None,) * 4
        assert completion.prompt == before == "a" * 70_000 + " end"

    def test_a_small_one_is_kept(self) -> None:
        completion = Completion(b'{"prompt": "hello"}')
        completion.drop_texts()
        assert completion._texts == ["hello"]

    def test_what_an_endpoint_read_itself_is_kept(self) -> None:
        completion = Completion(b"a" * 70_000, fields=RequestFields(prompt="hello"))
        completion.drop_texts()
        assert completion.prompt == "hello"


class TestTransferMembers:
    """What only a router tells an engine: where a KV cache is, which rank is to serve."""

    @pytest.mark.parametrize("name", TRANSFER_MEMBERS)
    @pytest.mark.parametrize("value", [{"remote_host": "10.0.0.1"}, "10.0.0.1", 7, [1], False])
    def test_one_with_a_value_is_told(self, name: str, value: Any) -> None:
        assert read(prompt="x", **{name: value}).transfer_member == name

    @pytest.mark.parametrize("name", TRANSFER_MEMBERS)
    def test_null_is_as_good_as_absent(self, name: str) -> None:
        assert read(prompt="x", **{name: None}).transfer_member == ""

    @given(st.sampled_from(TRANSFER_MEMBERS), st.sets(st.integers(0, 21)), st.booleans())
    def test_one_whose_name_is_escaped_is_told(self, name: str, places: set[int], is_first: bool) -> None:
        written = "".join(f"\\u{ord(c):04x}" if at in places else c for at, c in enumerate(name))
        members = [f'"{written}": "x"', '"model": "m"', '"messages": []']
        body = ", ".join(members if is_first else members[::-1])
        assert Completion(f"{{{body}}}".encode()).transfer_member == name

    def test_one_that_comes_twice_is_told(self) -> None:
        assert Completion(b'{"bootstrap_host": null, "bootstrap_host": "x"}').transfer_member
        assert Completion(b'{"bootstrap_host": "x", "prompt": "y"}').prompt == "y"

    @pytest.mark.parametrize("value", [{"remote_host": "10.0.0.1"}, None])
    def test_in_a_large_body(self, value: Any) -> None:
        told = read(messages=[{"content": "x" * LARGE}], kv_transfer_params=value).transfer_member
        assert told == ("kv_transfer_params" if value else "")

    def test_in_a_body_of_another_shape(self) -> None:
        assert fields_of({"input": "x", "kv_transfer_params": {}}, "input").transfer_member == "kv_transfer_params"
