"""An endpoint beside the router's own: `POST /v1/embeddings`, served by any instance, in splitwise mode too."""

import msgspec

from fd_router.errors import BadRequestError
from fd_router.openai.completion import Completion, Headers, RequestFields
from fd_router.openai.endpoints import Endpoint


class EmbeddingsBody(msgspec.Struct):
    """What scheduling wants of the body: the texts, for prefixes and counts, and the model."""

    input: str | list[str | int | list[int]] = ""
    model: str | None = None
    user: str | None = None


def read(body: bytes, headers: Headers) -> Completion:
    """Read a request. What no instance could read is refused here; anything else is theirs to judge."""
    try:
        asked = msgspec.json.decode(body, type=EmbeddingsBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None
    fields = RequestFields(prompt=asked.input, model=asked.model, user=asked.user)
    return Completion(body, headers, fields)


EMBEDDINGS = Endpoint(path="/v1/embeddings", mode="any_instance", read=read)
