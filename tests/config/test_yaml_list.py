from __future__ import annotations

import pytest
import yaml

from fd_router.config import yaml_list
from fd_router.config.yaml_list import load_with_lines, place_of


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("- a\n\n- b\n", [1, 3]),
        ("x: 1\nitems:\n  - a\n  - b: 1\n    c: 2\n  - d\n", [3, 4, 6]),
        ("items: [a,\n b]", [1, 2]),
        ("items: {a: [1]}", []),
        ("base: &b [1, 2]\nitems: *b", [1, 1]),
        ("{? [a] : 1, items: [x]}", [1]),
    ],
)
def test_the_line_of_each_item(text: str, lines: list[int]) -> None:
    if "? [a]" in text:
        with pytest.raises(yaml.YAMLError):  # a list can't be a key of Python's
            load_with_lines(text, "items")
        return
    document, found = load_with_lines(text, "items")
    assert list(found) == lines
    assert document == yaml.safe_load(text)


@pytest.mark.parametrize("count", [101, 200_000])
@pytest.mark.parametrize("nest", ["[", "{a: ", "- "])
def test_what_is_nested_deeply_is_refused_before_it_is_put_together(nest: str, count: int) -> None:
    with pytest.raises((RecursionError, yaml.YAMLError)):
        load_with_lines(f"items: \n  {nest * count}", "items")


@pytest.mark.parametrize("text", ["items: [a]\n---\n", "items: [a]\n---\nitems: [b, c]\n", "---\nitems: [a]\n...\n"])
def test_only_the_first_document_counts_as_in_go(text: str) -> None:
    assert load_with_lines(text, "items")[0] == {"items": ["a"]}


MISNAMED = ["!!timestamp x", "!!bool x", "!!int ''", "!!float ''", "!!int x", "!!timestamp 2001-99-99", "!!binary é"]


@pytest.mark.parametrize("value", MISNAMED)
def test_a_value_that_is_not_what_its_tag_says_is_an_error_of_the_file(value: str) -> None:
    with pytest.raises((yaml.YAMLError, ValueError)):
        load_with_lines(f"items: [{{a: {value}}}]", "items")


def test_a_place() -> None:
    assert [place_of("k.yaml", [4, 7], index) for index in (0, 1, 2)] == ["k.yaml:4", "k.yaml:7", "k.yaml"]


@pytest.mark.parametrize(
    ("text", "items"), [("items: [{a: 1}, b]", [{"a": 1}, "b"]), ("- {a: 1}\n- b", [{"a": 1}, "b"])]
)
def test_what_the_document_was_made_of_is_let_go_item_by_item(
    text: str, items: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freed in one go, a large file's nodes hold all threads up."""
    kept: list[yaml.Node] = []

    class Keeping(yaml_list._LOADER):  # type: ignore[misc, name-defined]
        def get_node(self) -> yaml.Node:
            kept.append(super().get_node())
            return kept[0]

    monkeypatch.setattr(yaml_list, "_LOADER", Keeping)
    document, lines = load_with_lines(text, "items")
    assert (document["items"] if isinstance(document, dict) else document) == [{"a": 1}, "b"]
    assert len(lines) == 2
    (root,) = kept
    assert (root.value[0][1] if isinstance(root, yaml.MappingNode) else root).value == []
