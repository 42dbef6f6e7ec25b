"""The device with which an option is declared once: ``Annotated[float, Option(help=..., unit="s", minimum=0)]``.

Flags, environment names, checks and the reference page are derived from these declarations. The device knows
nothing of the router's own options, so the mock instance's are declared with it as well.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from fd_router.errors import ConfigError

ENVIRONMENT_PREFIX = "FD_ROUTER_"

_TRUE = frozenset({"true", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "no", "n", "off", "0"})
"""``y`` and ``n`` too: Go's YAML package takes them where a truth value is needed."""
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping"}
_OTHER_BASE = re.compile(r"[+-]?0[xob]")
_SHOWN = 80  # characters of a wrong value that a message repeats
_NEAR = 0.6  # likeness from 0 to 1 from which on a name is worth suggesting: difflib's own

S = TypeVar("S", bound=msgspec.Struct)


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an option beside its name, type and default. Bounds are inclusive and in ``unit``."""

    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""  # a regular expression that the whole text must match, unless it is one of the choices
    form: str = ""  # the pattern in words: "a path beginning with /"
    flag: bool = False  # the router's command line has it, as --<key without section>
    repeated: bool = False  # the flag may be given often: its texts, joined by commas
    secret: bool = False  # never repeated in a message, nor shown
    zero_is_default: bool = False  # 0 means the default, as in FastDeploy's Go program
    live: bool = False  # a reload puts a new value in force; others need a restart

    def within(self, number: float) -> bool:
        """Tell whether ``number`` is inside the bounds."""
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        try:
            return low <= number <= high and math.isfinite(number)
        except OverflowError:  # a whole number that no calculation could take
            return False


class Declared(msgspec.Struct, frozen=True):
    """One option as its Struct declares it."""

    section: str  # "scheduler"; "" for a Struct without sections
    attribute: str  # "waiting_weight"
    type: Any  # bool, int, float, str, or tuple[one of them, ...]; or dict[str, Any]
    default: Any
    option: Option

    @property
    def key(self) -> str:
        """The full name in files and messages: ``scheduler.waiting-weight``."""
        name = kebab(self.attribute)
        return f"{self.section}.{name}" if self.section else name

    @property
    def flag(self) -> str:
        """The long flag: ``--port``."""
        return f"--{kebab(self.attribute)}"

    @property
    def environment(self) -> str:
        """The environment variable: ``FD_ROUTER_SCHEDULER_WAITING_WEIGHT``."""
        return f"{ENVIRONMENT_PREFIX}{self.section}_{self.attribute}".upper()

    @property
    def many(self) -> bool:
        """Whether the option takes several values."""
        return get_origin(self.type) in (tuple, list)

    @property
    def kind(self) -> type:
        """The type of one value."""
        kind: type = get_args(self.type)[0] if self.many else get_origin(self.type) or self.type
        return kind

    @property
    def expected(self) -> str:
        """What is allowed, in words: ``a whole number from 1 to 65535``."""
        option = self.option
        if option.choices:
            return f"one of {', '.join(option.choices)}" + (f", or {option.form}" if option.form else "")
        words = option.form or _KINDS[self.kind]
        unit = f" {option.unit}" if option.unit else ""
        if option.minimum is not None and option.maximum is not None:
            return f"{words} from {number_text(option.minimum)} to {number_text(option.maximum)}{unit}"
        if option.minimum is not None:
            return f"{words} of at least {number_text(option.minimum)}{unit}"
        if option.maximum is not None:
            return f"{words} of at most {number_text(option.maximum)}{unit}"
        return f"{words} in{unit}" if unit else words

    def parse(self, text: str) -> Any:
        """Read one value from ``text`` as files, environments and flags write it.

        Raises ValueError whose message names the value, what is allowed, and the nearest choice.
        """
        text = text.strip()
        try:
            value = _READERS[self.kind](text)
        except ValueError:
            raise ValueError(self._complaint(text)) from None
        if self.option.zero_is_default and value == 0:
            return self.default
        if isinstance(value, str):
            return self._checked_text(value)
        if not isinstance(value, bool | dict) and not self.option.within(value):
            raise ValueError(self._complaint(text))
        return value

    def _checked_text(self, text: str) -> str:
        option = self.option
        if not may_be_name(text):
            raise ValueError(self._complaint(text))
        if option.choices:
            for choice in option.choices:
                if choice.lower() == text.lower():
                    return choice
        fits = re.fullmatch(option.pattern, text) is not None if option.pattern else not option.choices
        if not fits:
            raise ValueError(self._complaint(text))
        return text

    def _complaint(self, text: str) -> str:
        if self.option.secret:
            return f"what is given is not {self.expected}"
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        return f"{shown!r} is not {self.expected}{did_you_mean(text, self.option.choices)}"


def may_be_name(text: str) -> bool:
    """Tell whether a file, or a host, may be called ``text``: YAML's escapes make a NUL, or half a character."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def declared(struct: type[msgspec.Struct], section: str = "") -> tuple[Declared, ...]:
    """List the options that ``struct`` declares, in its order. A field without an ``Option`` is none."""
    hints = get_type_hints(struct, include_extras=True)
    found = []
    for field in msgspec.structs.fields(struct):
        annotated = get_args(hints[field.name])
        option = next((extra for extra in annotated[1:] if isinstance(extra, Option)), None)
        if option is not None:
            found.append(Declared(section, field.name, annotated[0], _default(field), option))
    return tuple(found)


def from_texts(struct: type[S], texts: Mapping[str, str | Sequence[str]]) -> S:
    """Make a ``struct`` from attribute → text (several texts for an option that takes many).

    Raises ConfigError with a line for every wrong value, each beginning with the option's flag.
    """
    values: dict[str, Any] = {}
    problems = []
    for option in declared(struct):
        given = texts.get(option.attribute)
        if given is None:
            continue
        try:
            values[option.attribute] = (
                option.parse(given) if isinstance(given, str) else tuple(map(option.parse, given))
            )
        except ValueError as error:
            problems.append(f"{option.flag}: {error}")
    if problems:
        raise ConfigError(*problems)
    return struct(**values)


def kebab(name: str) -> str:
    """``waiting_weight`` → ``waiting-weight``."""
    return name.replace("_", "-")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the one of ``known`` that is most like ``word``, or nothing when none is near.

    The words in a name may come in another order: FastDeploy's own examples have ``interval-cleanup-secs``.
    """
    word = word.lower()
    likeness = {name: max(_likeness(word, name), _likeness(_sorted_words(word), _sorted_words(name))) for name in known}
    best = max(likeness, key=likeness.__getitem__, default="")
    return best if likeness.get(best, 0) >= _NEAR else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest of ``known``, or nothing when none is near."""
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""


def number_text(number: float) -> str:
    """Write a number as a person would: ``5`` and not ``5.0``."""
    return str(int(number)) if float(number).is_integer() else repr(number)


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _sorted_words(name: str) -> str:
    return "-".join(sorted(kebab(name).split("-")))


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = _number(text)  # YAML and Go take 5.0 for a whole number
        if not number.is_integer():
            raise
        return int(number)


def _number(text: str) -> float:
    """Read a number as YAML has it: ``0x10``, ``0o20`` and ``0b10000``, too."""
    if _OTHER_BASE.match(text) is None:
        return float(text)
    try:
        return float(int(text, 0))
    except OverflowError:
        raise ValueError(text) from None


def _truth(text: str) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(text)
    return word in _TRUE


def _mapping(text: str) -> dict[str, Any]:
    value = msgspec.json.decode(text)  # its DecodeError is a ValueError
    if not isinstance(value, dict):
        raise ValueError(text)  # noqa: TRY004  like the other readers
    return value


_READERS: Mapping[type, Callable[[str], Any]] = {
    bool: _truth, int: _whole_number, float: _number, str: str, dict: _mapping,
}  # fmt: skip
