"""The options of several models behind one router: names, where they lead, and what becomes of those nobody serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from fd_router.config.options import Option
from fd_router.errors import ConfigError

MODEL_FORM = "1 to 256 printable characters"

_MAX_WEIGHT = 1_000_000


class ModelsConfig(msgspec.Struct, frozen=True):
    """Which model serves a request. Without several models, and without any of these, a request's model is nobody's
    concern but its instance's."""

    strict: Annotated[
        bool,
        Option(
            live=True,
            help="Refuse (404) every request for a model that no instance serves. Without it that happens only where "
            "instances serve different models, and default is none.",
        ),
    ] = False
    default: Annotated[
        str,
        Option(
            live=True,
            help="Model, or alias, of requests that name none, and, unless strict, of those that name one that nobody "
            "serves. None: where instances serve different models, both are refused.",
        ),
    ] = ""
    aliases: Annotated[
        dict[str, Any],
        Option(
            live=True,
            help="Further names: each with the model that it stands for, or with several and their weights "
            "(`gpt-x: {big: 90, canary: 10}`), of which one is drawn, the same for all requests of a session. "
            "Instances read the model's own name.",
        ),
    ] = msgspec.field(default_factory=dict)
    fallbacks: Annotated[
        dict[str, Any],
        Option(
            live=True,
            help="Models that take another one's requests while none of its instances can: a name or a list of names "
            "for each (`big: [medium, small]`).",
        ),
    ] = msgspec.field(default_factory=dict)
    discovery: Annotated[
        str,
        Option(
            live=True,
            help="Whether instances that don't tell their models in their registrations are asked for them "
            "(`/v1/models`). auto: those of dialects other than fastdeploy; all of them once an instance tells models, "
            "one of these options names some, a client asks for the list, or an instance answers 404.",
            choices=("auto", "always", "never"),
        ),
    ] = "auto"
    refresh_interval_secs: Annotated[
        float,
        Option(
            live=True,
            help="How often they are asked again, beside when they come up.",
            unit="s",
            minimum=0.01,
        ),
    ] = 60.0

    @property
    def checked(self) -> ModelNames:
        """The names, checked. Raises ConfigError with a line for each fault: the key, the value, the mend."""
        problems: list[str] = []
        aliases = {name: _targets(name, given, problems) for name, given in self.aliases.items()}
        fallbacks = {name: _fallbacks(name, given, problems) for name, given in self.fallbacks.items()}
        for name, targets in aliases.items():
            problems += _alias_problems(name, targets, aliases)
        for name, models in fallbacks.items():
            problems += _fallback_problems(name, models, aliases)
        if self.default and not is_model_name(self.default):
            problems.append(f"models.default: {self.default[:80]!r} is no name of a model: {MODEL_FORM} are needed")
        if problems:
            raise ConfigError(*problems)
        return ModelNames(aliases, fallbacks, self.default, self.strict)


class Weighted(msgspec.Struct, frozen=True):
    """One of the models that an alias stands for; of all weights together this is its share."""

    model: str
    weight: float


class ModelNames(msgspec.Struct, frozen=True):
    """The same options, checked: every alias with its models, every model with its fallbacks."""

    aliases: Mapping[str, tuple[Weighted, ...]] = {}
    fallbacks: Mapping[str, tuple[str, ...]] = {}
    default: str = ""
    strict: bool = False


def is_model_name(text: object) -> bool:
    """Tell whether ``text`` can be a model's name."""
    return isinstance(text, str) and 0 < len(text) <= 256 and text.isprintable() and text == text.strip()


def _targets(name: str, given: Any, problems: list[str]) -> tuple[Weighted, ...]:
    key = f"models.aliases: {name[:80]}"
    if isinstance(given, str):
        given = {given: 1}
    if not isinstance(given, Mapping) or not given:
        problems.append(
            f"{key}: {_shown(given)} is neither a model nor models with weights: give {{big: 90, small: 10}}"
        )
        return ()
    targets = []
    for model, weight in given.items():
        if not is_model_name(model):
            problems.append(f"{key}: {_shown(model)} is no name of a model: {MODEL_FORM} are needed")
        elif not _is_weight(weight):
            problems.append(
                f"{key}: {model}: {_shown(weight)} is no weight: a number from 0 to {_MAX_WEIGHT} is needed"
            )
        else:
            targets.append(Weighted(model, float(weight)))
    if len(targets) == len(given) and not any(target.weight for target in targets):
        problems.append(f"{key}: all weights are 0: give one of the models a weight above 0")
    return tuple(targets)


def _fallbacks(name: str, given: Any, problems: list[str]) -> tuple[str, ...]:
    models = [given] if isinstance(given, str) else given
    if not isinstance(models, list) or not models or not all(map(is_model_name, models)):
        problems.append(f"models.fallbacks: {name[:80]}: {_shown(given)} is neither a model nor a list of models")
        return ()
    return tuple(models)


def _alias_problems(name: str, targets: tuple[Weighted, ...], aliases: Mapping[str, tuple[Weighted, ...]]) -> list[str]:
    key = f"models.aliases: {name[:80]}"
    problems = [] if is_model_name(name) else [f"{key}: this is no name of a model: {MODEL_FORM} are needed"]
    if [target.model for target in targets] == [name]:
        problems.append(f"{key}: it leads to itself; leave it out, or give it another model")
    problems += [
        f"{key}: {target.model} is an alias itself; give the models that it stands for"
        for target in targets
        if target.model in aliases and target.model != name
    ]
    return problems


def _fallback_problems(name: str, models: tuple[str, ...], aliases: Mapping[str, tuple[Weighted, ...]]) -> list[str]:
    key = f"models.fallbacks: {name[:80]}"
    if name in aliases and all(target.model != name for target in aliases[name]):
        return [f"{key}: this is an alias; give the fallbacks of the models that it stands for"]
    return [f"{key}: a model is no fallback of itself; leave it out"] * (name in models) + [
        f"{key}: {model} is an alias; give a model that instances serve"
        for model in models
        if model in aliases and all(target.model != model for target in aliases[model])
    ]


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_WEIGHT


def _shown(value: Any) -> str:
    return repr(value if isinstance(value, str | int | float | bool) else str(value))[:80]
