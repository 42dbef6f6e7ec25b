"""Members come and go; everything else stays byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.openai import json_splice
from fd_router.openai.json_splice import _drop_any, _plain, _plain_members, add_members, drop_members, set_member
from fd_router.spliced_body import changed

NAMES = ("disaggregate_info", "request_id", "a", "b", "é", "")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def objects(draw):
    """JSON objects as clients write them: repeated names, odd spacing, escapes."""
    members = draw(st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=6))
    space = st.sampled_from(["", " ", "\n\t", "\r\n  "])
    ascii_only = draw(st.booleans())
    text = ",".join(
        draw(space) + json.dumps(name, ensure_ascii=ascii_only) + draw(space) + ":" + draw(space)
        + json.dumps(value, ensure_ascii=ascii_only) + draw(space)
        for name, value in members
    )  # fmt: skip
    return members, draw(space) + "{" + (text or draw(space)) + "}" + draw(space)


def pairs(text: str | bytes):
    return json.JSONDecoder(object_pairs_hook=list).decode(text.decode() if isinstance(text, bytes) else text)


@given(objects(), st.sets(st.sampled_from(NAMES)))
def test_what_is_dropped_is_gone_and_the_rest_is_as_it_was(generated, names):
    _, text = generated
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    before = pairs(text.strip())
    after = pairs(drop_members(body, names).strip())
    assert after == [member for member in before if member[0] not in names]


@given(objects(), st.sets(st.sampled_from(NAMES)))
def test_both_ways_agree_to_the_byte(generated, names):
    _, text = generated
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    cuts = _plain(body, _plain_members(body), names)
    assert cuts is None or changed(body, cuts) == _drop_any(body, names)


@given(st.dictionaries(st.sampled_from(NAMES), values, min_size=1), st.sets(st.sampled_from(NAMES)), st.booleans())
def test_what_clients_libraries_write_goes_the_quick_way(members, names, compact):
    separators = (",", ":") if compact else None
    body = json.dumps(members, ensure_ascii=False, separators=separators).encode("utf-8", "surrogatepass")
    if b"\xed" in body or "\\ud" in json.dumps(members):
        return  # lone surrogates, which only the standard library takes, or characters that need two
    assert changed(body, _plain(body, _plain_members(body), names)) == _drop_any(body, names)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"b":2,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b'{"\\u0061":1,"b":2}',
        b'{"a":{"a":1},"\\u0061":{"a":1}}',
        b'{"a":1, "b":NaN}',
        b'{"a":1, "b":"\\ud800"}',
        b'{"a":1,"\\\\":2}',
        b'{"a":1,"\\"":2}',
        b'{"b":1,"a":12,"a":1}',
    ],
)
def test_what_is_written_oddly_goes_the_slow_way(body):
    assert _plain(body, _plain_members(body), ("a",)) is None
    assert "a" not in json.loads(drop_members(body, ("a",)))


@given(objects())
def test_nothing_to_drop_leaves_the_bytes_alone(generated):
    _, text = generated
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    assert drop_members(body, ("not there",)) == body


@given(objects())
def test_added_members_come_first_and_nothing_else_changes(generated):
    _, text = generated
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    assert pairs(add_members(body, b'"x":1,"y":[2]').strip()) == [("x", 1), ("y", [2]), *pairs(text.strip())]


def test_numbers_order_and_spacing_stay():
    body = b'{ "z" : 12345678901234567890123 , "disaggregate_info":{"a":[1,{"b":"}"}]}, "a":1.50e+3}'
    assert drop_members(body, ("disaggregate_info",)) == b'{ "z" : 12345678901234567890123 , "a":1.50e+3}'
    assert add_members(b"{ }", b'"x":1') == b'{"x":1 }'


def test_an_escaped_name_is_found():
    assert json.loads(drop_members(b'{"disaggregate\\u005finfo":1,"a":2}', ("disaggregate_info",))) == {"a": 2}


@pytest.mark.parametrize("body", [b"{", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{1:2}", b'{"a":"\xff"}'])
def test_what_is_no_object_is_refused(body):
    with pytest.raises(ValueError):
        drop_members(body, ("a",))


class TestSetMember:
    @pytest.mark.parametrize(
        ("body", "changed"),
        [
            (b'{"model":"x","n":1}', b'{"model":"big","n":1}'),
            (b'{"n": 12345678901234567890123, "model": "x"}', b'{"n": 12345678901234567890123, "model": "big"}'),
            (
                b'{"a": {"model": "x"}, "model": "x", "b": "model"}',
                b'{"a": {"model": "x"}, "model": "big", "b": "model"}',
            ),
            (b'{"model": null}', b'{"model": "big"}'),
            ('{"p": "\u00e9", "model": "x"}'.encode(), '{"p": "\u00e9", "model": "big"}'.encode()),
        ],
    )
    def test_the_value_changes_where_it_stands(self, body: bytes, changed: bytes) -> None:
        assert set_member(body, "model", b'"big"') == changed

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b'{"n": 1}',
            b'{ "model" : "x" , "n" : 1 }',
            b'{"model": "x", "model": "y", "n": 1}',
            b'{"mod\\u0065l": "x", "n": 1}',
            b'{"n": NaN, "model": "x"}',
            b'{"model":  "x",\n "n": 1}',
        ],
    )
    def test_whatever_way_it_is_written_the_member_is_there_once(self, body: bytes) -> None:
        pairs = json.loads(set_member(body, "model", b'"big"'), object_pairs_hook=list)
        assert [value for name, value in pairs if name == "model"] == ["big"]
        assert len(pairs) == len({name for name, _ in pairs} | {"model"})

    @pytest.mark.parametrize("body", [b"", b"[]", b'{"a": \xff}', b'"model"', b"5"])
    def test_what_is_no_object(self, body: bytes) -> None:
        with pytest.raises(ValueError):
            set_member(body, "model", b'"big"')


class TestLarge:
    """An object that is too large to be read in the slow way."""

    @pytest.fixture(autouse=True)
    def small_limits(self, monkeypatch):
        monkeypatch.setattr(json_splice, "WALKED", 10)
        monkeypatch.setattr(json_splice, "_COMPARED", 4)

    @pytest.mark.parametrize(
        ("body", "without"),
        [
            (b'{"a":1,"b":[1,2],"c":"xxxxxxxxxx"}', b'{"a":1,"c":"xxxxxxxxxx"}'),
            (b' { "a" : 1 ,\n "b":"xxxxxxxxxx"\n, "c": {"d":1} } ', b' { "a" : 1 , "c": {"d":1} } '),
            (b'{"b":"only this one"}', b"{}"),
            (b'{"a":1, "\\u0062": 22222222}', b'{"a":1}'),
            (b'{"x":  "nothing to drop" }', b'{"x":  "nothing to drop" }'),
        ],
    )
    def test_a_member_goes_whatever_the_spacing(self, body, without):
        assert drop_members(body, ("b",)) == without
        assert _drop_any(body, ("b",)) == without

    @pytest.mark.parametrize("body", [b'{"a":1,"b":2222222222,"a":3}', b'{"b":1,"b":2222222222}', b'{"a":NaN,"b":12}'])
    def test_what_breaks_the_rules_is_refused(self, body):
        with pytest.raises(ValueError, match=r"twice|RFC 8259"):
            drop_members(body, ("b",))

    def test_a_member_is_set_whatever_the_spacing(self):
        assert set_member(b' { "x" :  "nothing of it" } ', "model", b"1") == b' {"model":1, "x" :  "nothing of it" } '
        assert set_member(b'{ "model" : "alone" }', "model", b"1") == b'{"model":1}'
        assert set_member(b'{"a":"twice", "a":"twice"}', "model", b"1") == b'{"model":1,"a":"twice", "a":"twice"}'
        with pytest.raises(ValueError, match="RFC 8259"):
            set_member(b'{"a":NaN,"model":"m"}', "model", b"1")

    def test_another_value_is_set(self):
        assert set_member(b'{"a":"xxxxxxxxxx", "model" :"old name"}', "model", b'"new"') == (
            b'{"model":"new","a":"xxxxxxxxxx"}'
        )
        assert set_member(b'{"a":"xxxxxxxxxx","model":"old name"}', "model", b'"new"') == (
            b'{"a":"xxxxxxxxxx","model":"new"}'
        )


@pytest.mark.parametrize("space", [b"", b"  "])
def test_an_object_of_too_many_members_is_refused(space):
    body = b'{%b"z":1}' % b"".join(b'"k%d":%b1,' % (number, space) for number in range(json_splice.MAX_MEMBERS + 1))
    with pytest.raises(ValueError, match="more than 1000 members"):
        drop_members(body, ("z",))


@given(
    st.dictionaries(st.sampled_from(NAMES), values, min_size=1),
    st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=3),
    st.sampled_from([(",", ":"), None, (" , ", " : ")]),
    st.booleans(),
)
def test_what_is_spliced_says_what_a_copy_would(members, rounds, separators, sets_one):
    """One change after the other, of a long body (of this length) and of a short one."""
    body = json.dumps(members, separators=separators).encode()
    if "\\ud" in json.dumps(members):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fd_router.spliced_body.LONG", 0)
        spliced = set_member(body, "a", b'"set"') if sets_one else add_members(body, b'"z":1')
        for names in rounds:
            spliced = add_members(drop_members(spliced, names - {"a"}), b'"y":[2]')
    whole = set_member(body, "a", b'"set"') if sets_one else add_members(body, b'"z":1')
    for names in rounds:
        whole = add_members(drop_members(whole, names - {"a"}), b'"y":[2]')
    assert pairs(bytes(spliced)) == pairs(whole)
    assert len(spliced) == len(bytes(spliced))
