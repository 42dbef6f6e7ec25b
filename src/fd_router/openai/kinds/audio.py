"""Speech: recognised and translated, from forms with a file (``multipart/form-data``), and spoken."""

from __future__ import annotations

from typing import Final

from fd_router.openai.completion import Completion, Headers, RequestFields
from fd_router.openai.endpoint import Endpoint
from fd_router.openai.form_body import boundary_of, read_form, set_field
from fd_router.openai.json_body import fields_of, read_object
from fd_router.openai.request_fields import is_true
from fd_router.spliced_body import Body

BYTES_PER_TOKEN: Final = 320
"""Of a recording, about: Whisper makes 50 tokens of a second, which compressed has some 16 KB."""


def read_recording(body: bytes, headers: Headers) -> Completion:
    """Read a form: its fields, and as prompt as many tokens as the recording's length speaks for."""
    form = read_form(body, boundary_of(headers))
    fields = RequestFields(
        stream=is_true(form.fields.get("stream")),
        model=form.fields.get("model"),
        user=form.fields.get("user"),
        prompt=form.fields.get("prompt"),
    )
    completion = Completion(body, headers, fields)
    completion.tokens += form.file_bytes // BYTES_PER_TOKEN
    return completion


def form_with_model(body: bytes, headers: Headers, model: str) -> Body:
    """Return a form that asks for ``model``; its other parts stay as they came."""
    return set_field(body, boundary_of(headers), "model", model)


def read_speech(body: bytes, headers: Headers) -> Completion:
    """Read what is to be spoken."""
    return Completion(body, headers, fields_of(read_object(body), "instructions", "input"))


ENDPOINTS: Final = (
    Endpoint(
        path="/v1/audio/transcriptions",
        kind="audio",
        about="speech to text (a form with a file)",
        mode="any_instance",
        read=read_recording,
        with_model=form_with_model,
    ),
    Endpoint(
        path="/v1/audio/translations",
        kind="audio",
        about="speech to English text (a form with a file)",
        mode="any_instance",
        read=read_recording,
        with_model=form_with_model,
    ),
    Endpoint(path="/v1/audio/speech", kind="audio", about="text to speech", mode="any_instance", read=read_speech),
)
