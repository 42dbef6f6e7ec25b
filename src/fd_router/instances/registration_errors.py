"""The errors of a registration, and how they show a value: on one line, bounded, by its JSON type."""

from __future__ import annotations

from fd_router.errors import FdRouterError

_MAX_SHOWN = 100


class RegistrationError(FdRouterError, ValueError):
    """A registration that can't be accepted. ``reason`` is the bare fault, ``message`` the text of the 400 answer."""

    prefix = "invalid InstanceInfo format: "

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def message(self) -> str:
        """The fault as the HTTP answer and the log tell it."""
        return self.prefix + self.reason


class RegistrationSyntaxError(RegistrationError):
    """Not JSON, not an object, or a value of the wrong type."""

    prefix = "Invalid InstanceInfo JSON format: "


class RoleNotServedError(RegistrationError):
    """A valid registration whose role doesn't fit the router's mode."""

    prefix = ""


def wrong_type(name: str, expected: str, value: object) -> RegistrationSyntaxError:
    """Make the error of a value that is no ``expected``."""
    return RegistrationSyntaxError(f"{name}: expected {expected}, got {kind_of(value)}")


def kind_of(value: object) -> str:
    """Name the JSON type of ``value``."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {shown(value)}"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "a list"
    return "null" if value is None else "an object"


def shown(value: object) -> str:
    """Print ``value`` for a message: on one line (it goes to the log) and bounded."""
    try:
        text = str(value)
    except ValueError:  # CPython refuses to print an int of more than 4300 digits
        return "a huge number"
    if len(text) > _MAX_SHOWN:
        text = text[:_MAX_SHOWN] + "…"
    return "".join(char if char.isprintable() else "?" for char in text)
