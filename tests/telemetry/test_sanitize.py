from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.telemetry.sanitize import MAX_PATH, MAX_TAG, context_tags, escape_controls, shown_method, shown_path

ANYTHING = st.text(st.characters(), max_size=700)  # surrogates too
TAG = re.compile(r"\[(session_id|request_id|trace_id|req_id):([^\]]+)\]")


def test_the_tags_that_are_known_come_in_fastdeploys_order() -> None:
    assert context_tags("t", "r", "s", "q") == "[trace_id:t] [req_id:r] [session_id:s] [request_id:q] "
    assert context_tags(request_id="q", trace_id="t") == "[trace_id:t] [request_id:q] "
    assert context_tags() == ""


def test_a_session_may_be_named_in_any_script_and_with_spaces() -> None:
    assert context_tags(session_id="会话 1") == "[session_id:会话 1] "


@pytest.mark.parametrize("evil", ["a]b", "a[b", "a\nb", "a\rb", "a\x1bb", "a\x85b", "a\u2028b", "a\ud800b", "a\u202eb"])
def test_what_could_break_out_of_a_tag_is_replaced(evil: str) -> None:
    assert context_tags(trace_id="fine", session_id=evil) == "[trace_id:fine] [session_id:a_b] "


def test_an_overlong_value_is_cut() -> None:
    assert context_tags(req_id="x" * 5000, session_id="s") == f"[req_id:{'x' * MAX_TAG}] [session_id:s] "


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_tags_are_always_exactly_the_values_given(trace: str, req: str, session: str, request: str) -> None:
    tags = context_tags(trace, req, session, request)
    given_names = [
        name
        for name, value in (("trace_id", trace), ("req_id", req), ("session_id", session), ("request_id", request))
        if value
    ]
    assert [name for name, _ in TAG.findall(tags)] == given_names
    assert TAG.sub("", tags) == " " * len(given_names)
    assert tags.isprintable()
    assert len(tags) <= 4 * (MAX_TAG + len("[session_id:] "))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/models", "/v1/models"),
        ("/search?q=my+secret", "/search"),
        ("/a#b", "/a"),
        ("/a b", "/a%20b"),
        ("/a\r\n[ERROR] fake", "/a%0D%0A%5BERROR%5D%20fake"),
        ("/[req_id:fake]", "/%5Breq_id:fake%5D"),
        ("/é", "/%C3%A9"),
        ("/\udcff", "/%ED%B3%BF"),
        ("/already%20escaped", "/already%20escaped"),
        ("", "/"),
        ("?q", "/"),
        ("*", "*"),
    ],
)
def test_a_path_is_shown_as_one_field(path: str, shown: str) -> None:
    assert shown_path(path) == shown


@given(ANYTHING)
def test_no_path_breaks_out_of_its_field(path: str) -> None:
    assert re.fullmatch(r"[!-Z\\^-~]+", shown_path("/" + path))
    assert len(shown_path(path)) <= MAX_PATH


@given(ANYTHING)
def test_no_method_breaks_out_of_its_brackets(method: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_?-]{0,16}", shown_method(method))


def test_controls_are_written_as_escapes() -> None:
    assert escape_controls("a\n\x1b[31m\x7f\tb é") == "a\\x0a\\x1b[31m\\x7f\tb é"
