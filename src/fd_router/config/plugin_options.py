"""The options of a plug-in's class: their names, types and defaults, and how what an operator wrote is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from inspect import Parameter
from typing import Any, NamedTuple, Self, get_type_hints

import msgspec

from fd_router.config.options import did_you_mean, kebab
from fd_router.errors import ConfigError


class _Field(NamedTuple):
    type: Any
    is_required: bool


class OptionFields:
    """What may be given. ``takes_any``: also what isn't declared."""

    __slots__ = ("_fields", "_takes_any")

    def __init__(self, fields: Mapping[str, _Field], *, takes_any: bool = False) -> None:
        self._fields = fields
        self._takes_any = takes_any

    @classmethod
    def of_struct(cls, struct: type[msgspec.Struct]) -> Self:
        """Read them from a Struct."""
        types = get_type_hints(struct, include_extras=True)
        return cls({field.name: _Field(types[field.name], field.required) for field in msgspec.structs.fields(struct)})

    @classmethod
    def of_constructor(cls, found: Any, parameters: Mapping[str, Parameter], given: Collection[str]) -> Self:
        """Read them from a constructor's parameters, less those that are ``given`` something else."""
        types = get_type_hints(found.__init__, include_extras=True)
        named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        fields = {
            name: _Field(types.get(name, Any), parameter.default is Parameter.empty)
            for name, parameter in parameters.items()
            if name not in given and parameter.kind in named
        }
        return cls(fields, takes_any=any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()))

    def convert(self, plugin: str, key: str, preset: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Return attribute → value of ``options``, whose keys may have dashes, and of those that are ``preset``.

        Raises ConfigError with a line for each that is unknown, missing, or of a wrong type; ``key`` begins them.
        """
        values = {name: value for name, value in preset.items() if name in self._fields}
        problems: list[str] = []
        for given, value in options.items():
            name = given.replace("-", "_")
            if name not in self._fields and not self._takes_any:
                problems.append(f"{key}.{given}: {self._unknown(plugin, given)}")
                continue
            try:
                values[name] = msgspec.convert(value, self._type(name), strict=False)
            except (msgspec.ValidationError, TypeError) as error:
                reason = str(error)[:1].lower() + str(error)[1:]
                problems.append(f"{key}.{given}: {str(value)[:80]!r} doesn't fit: {reason}")
        told = values.keys() | {given.replace("-", "_") for given in options}
        missing = [name for name, field in self._fields.items() if field.is_required and name not in told]
        problems += [f"{key}: {plugin} needs {kebab(name)!r}" for name in missing]
        if problems:
            raise ConfigError(*problems)
        return values

    def _type(self, name: str) -> Any:
        return self._fields[name].type if name in self._fields else Any

    def _unknown(self, plugin: str, given: str) -> str:
        names = [kebab(name) for name in self._fields]
        near = did_you_mean(given, names) or (f"; it has {', '.join(names)}" if names else "; it has none")
        return f"{plugin} has no such option{near}"
