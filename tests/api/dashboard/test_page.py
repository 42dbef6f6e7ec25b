"""The page: whole, small, and allowed to do no more than it needs."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fd_router.api.dashboard import page
from fd_router.api.dashboard.page import make_page

VENDORED = {
    "preact.umd.js": "134b77bc803fa38661dc1b1e44e96eb0bb6a1a00edbb96d34dcde421b2e80b06",  # preact 10.29.8
    "hooks.umd.js": "5c29238e5dc99df306d7f7fff038591a397cfcfabb59f81fbdef43d670aa0566",  # preact 10.29.8
    "htm.umd.js": "7a31776e04bd4afde0d4308177d26f377716fcf7e4bd70be590746d6aa594f08",  # htm 3.1.1
}
"""What npm has under these versions, byte for byte."""


def test_the_page_holds_all_it_needs_in_150_kb() -> None:
    text = make_page().body.decode()
    assert len(text) <= 150_000
    assert "/*SCRIPT*/" not in text
    assert "/*STYLE*/" not in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text.partition("<script>")[0])
    assert "sourceMappingURL" not in text
    assert text.count("</script>") == 1


def test_the_policy_lets_a_browser_run_just_what_is_in_the_page() -> None:
    made = make_page()
    text, policy = made.body.decode(), dict(made.headers)["content-security-policy"]
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        inside = text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r'\sstyle="|\son[a-z]+="', text)


def test_the_libraries_are_as_they_were_published_with_their_licences() -> None:
    folder = files(page.__package__ or "") / "static" / "vendor"
    for name, digest in VENDORED.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    for name, licence in {"preact.LICENSE": "The MIT License", "htm.LICENSE": "Apache License"}.items():
        assert licence in (folder / name).read_text()
