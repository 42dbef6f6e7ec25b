"""One field of a form changes; the file and all else stay as they came."""

from __future__ import annotations

import pytest

from fd_router.openai import form_body
from fd_router.openai.form_body import read_form, set_field
from fd_router.openai.kinds.audio import form_with_model

BOUNDARY = b"frontier"
FILE = b'\x00\r\n--front\r\nname="model"\xff'


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{more}'.encode()
    return b"--frontier\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--frontier--\r\n"


AUDIO = part("file", FILE, '; filename="model"')


@pytest.mark.parametrize("order", [1, -1])
def test_the_field_changes_where_it_stands(order: int) -> None:
    def made(model: bytes) -> bytes:
        return form(*[AUDIO, part("model", model), part("language", b"en")][::order])

    changed = set_field(made(b"whisper"), BOUNDARY, "model", "big/whisper")
    assert changed == made(b"big/whisper")
    assert read_form(changed, BOUNDARY).fields == {"model": "big/whisper", "language": "en"}


def test_a_field_that_is_not_there_comes_first() -> None:
    body = form(AUDIO)
    changed = set_field(body, BOUNDARY, "model", "whisper")
    assert changed.endswith(body)
    assert read_form(changed, BOUNDARY).fields == {"model": "whisper"}


def test_what_is_no_form() -> None:
    with pytest.raises(ValueError):
        set_field(b"{}", BOUNDARY, "model", "whisper")


def test_the_boundary_is_in_the_head() -> None:
    headers = [(b"Content-Type", b"multipart/form-data; boundary=frontier")]
    assert form_with_model(form(part("model", b"x")), headers, "y") == form(part("model", b"y"))


def test_parts_behind_a_large_file_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form_body, "FRONT", 200)
    monkeypatch.setattr(form_body, "BACK", 200)
    form = (
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"\r\n--Y" * 300
        + b'\r\n--X\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--X--\r\n'
    )  # fmt: skip
    assert read_form(form, b"X").fields == {"model": "whisper"}
    assert read_form(form, b"X").file_bytes > 0
    assert b"\r\n\r\nother\r\n--X--" in set_field(form, b"X", "model", "other")
