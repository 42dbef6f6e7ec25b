"""The README's installation and make's environments don't get in each other's way."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_each_has_a_directory_of_its_own_that_git_ignores():
    """Of two installations in one directory the second replaced the first: the coverage had nothing to measure."""
    of_readme = re.findall(r"python3 -m venv (\S+)", (ROOT / "README.md").read_text())
    makefile = (ROOT / "Makefile").read_text()
    of_make = [re.search(rf"^{name} := (\S+)$", makefile, re.MULTILINE)[1] for name in ("VENV", "RUN")]
    assert of_readme
    assert len({*of_readme, *of_make}) == len(set(of_readme)) + 2
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {f"{each}/" for each in (*of_readme, *of_make)} <= set(ignored)


def test_the_demo_installs_what_a_router_needs_and_no_more():
    makefile = (ROOT / "Makefile").read_text()
    (needed,) = re.findall(r"^demo: (\S+)", makefile, re.MULTILINE)
    assert needed == "$(RUNNABLE)"
    assert re.search(r"^\$\(RUNNABLE\): requirements\.lock$", makefile, re.MULTILINE)
    assert "matplotlib" not in (ROOT / "requirements.lock").read_text()
