"""The names of models: what can be one."""

from __future__ import annotations

MODEL_FORM = "1 to 256 printable characters"


def is_model_name(text: object) -> bool:
    """Tell whether ``text`` can be a model's name."""
    return isinstance(text, str) and 0 < len(text) <= 256 and text.isprintable() and text == text.strip()
