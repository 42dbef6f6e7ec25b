"""Pages in two languages: the same headings, tables, code and options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from fd_router.cli import run
from fd_router.config.loading import OPTIONS, SECTIONS
from fd_router.config.reference import Words, reference

REPOSITORY = Path(__file__).parents[2]
CHINESE = sorted([*REPOSITORY.glob("*.zh.md"), *(REPOSITORY / "docs").rglob("*.zh.md")])
TRANSLATION = REPOSITORY / "docs" / "options.zh.yaml"


def english(page: Path) -> Path:
    return page.with_name(page.name.replace(".zh.md", ".md"))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[int]:
    return [len(found) for found in re.findall(r"^(#+) ", without_code(text), re.MULTILINE)]


def rows(text: str) -> list[tuple[int, list[str]]]:
    """Return of each row of a table how many cells it has, and what stands in it as code."""
    lines = [line for line in without_code(text).splitlines() if line.startswith("|")]
    return [(line.replace("\\|", "").count(" | "), sorted(re.findall(r"`([^`]+)`", line))[:1]) for line in lines]


def blocks(text: str) -> list[str]:
    """Return the blocks of code, without what their comments say."""
    found = re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"(?<![^\s])#(?! →).*", "#", block) for block in found]


def linked(page: Path) -> set[str]:
    """Return the pages that a page leads to, whatever their language and the place in them."""
    found = re.findall(r"\]\(([^)#\s]+)", without_code(page.read_text()))
    return {link.replace(".zh.md", ".md").rstrip("/") for link in found}


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_both_have_the_same_outline(page: Path) -> None:
    here, there = page.read_text(), english(page).read_text()
    assert headings(here) == headings(there)
    assert blocks(here) == blocks(there)
    assert rows(here) == rows(there)


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_both_can_be_found_from_each_other_and_are_in_their_languages(page: Path) -> None:
    text = without_code(page.read_text())
    assert len(re.findall(r"[一-鿿]", text)) > len(text) / 20
    assert not re.search(r"[一-鿿]{9}", without_code(english(page).read_text()))


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_both_lead_to_the_same_pages(page: Path) -> None:
    assert linked(english(page)) <= linked(page)


def test_what_there_is_in_chinese() -> None:
    names = {str(page.relative_to(REPOSITORY)) for page in CHINESE}
    assert names >= {
        "README.zh.md", "docs/configuration.zh.md", "docs/migrating.zh.md", "docs/scheduling.zh.md",
        "docs/troubleshooting.zh.md", "docs/tutorials/first-fleet.zh.md", "docs/tutorials/pd.zh.md",
    }  # fmt: skip


def test_every_option_is_translated_and_no_other() -> None:
    words = yaml.safe_load(TRANSLATION.read_text())
    assert set(words["options"]) == {option.key for option in OPTIONS}
    assert set(words["sections"]) == set(SECTIONS)
    forms = {option.option.form for option in OPTIONS if option.option.form}
    assert not forms - set(words["forms"])
    assert not {option.option.unit for option in OPTIONS if option.option.unit} - set(words["units"])


@pytest.mark.parametrize(
    ("page", "arguments"), [("configuration.md", []), ("configuration.zh.md", ["--translation", str(TRANSLATION)])]
)
def test_the_reference_is_up_to_date(page: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config-reference", *arguments]) == 0
    assert capsys.readouterr().out == (REPOSITORY / "docs" / page).read_text(), "make docs"


def test_words_that_are_missing_stay_english() -> None:
    assert "Port to listen on" in reference(Words(none="无"))
    assert "| 无 | a whole number from 1 to 65535 |" in reference(Words(none="无"))


def test_a_translation_that_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("optoins: {}")
    assert run(["config-reference", "--translation", str(path)]) == 1
    assert "optoins" in capsys.readouterr().err
