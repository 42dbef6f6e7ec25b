"""The command line: arguments → configuration → ``app``.

The router's flags, and the mock's, are made from the declared options. What costs start-up time is imported where
it is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final, NoReturn

import click
from click.core import ParameterSource

from fd_router import __version__
from fd_router.config.loading import (
    CONFIG_PATH_VARIABLE,
    OPTIONS,
    Declared,
    Loaded,
    declared,
    examine,
    from_texts,
    load,
)
from fd_router.config.options import kebab, number_text
from fd_router.early_signals import let_go
from fd_router.errors import ConfigError, FdRouterError

_FLAGS: Final = tuple(option for option in OPTIONS if option.option.flag)
_SETTINGS: Final[dict[str, Any]] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "token_normalize_func": kebab,  # --config-path is as good as --config_path
}
_METAVARS: Final[Mapping[type, str]] = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
_TRUTHS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "t", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "f", "0", "no", "off"), False),
}
"""Words for truth values: those of Go's flag package, and those of the configuration."""
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count

_EPILOG: Final = f"""\
Every option, also those without a flag, can be given in the environment as FD_ROUTER_<SECTION>_<KEY>
(FD_ROUTER_SERVER_PORT), or in the file that --config_path or {CONFIG_PATH_VARIABLE} names. A flag wins over the
environment, the environment over the file. docs/configuration.md lists them all. Go's single-dash forms
(-port 30000) are understood.
"""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run ``arguments`` and return the exit code: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C.

    An error is one clear line on stderr for each problem, never a traceback.
    """
    try:
        kept, ignored = without_extra(go_forms(arguments))
        if ignored:
            click.echo(f"fd-router: warning: ignored, as the Go program does: {' '.join(ignored)}", err=True)
        code = _router.main(kept, prog_name="fd-router", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (click.ClickException, FdRouterError, OSError) as error:
        for line in _lines(error):
            click.echo(f"fd-router: error: {line}", err=True)
        return 2 if isinstance(error, click.UsageError) else 1
    return int(code or 0)


def _lines(error: Exception) -> Sequence[str]:
    """Say ``error`` in one line, or one for each of its problems."""
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "fd-router"
        return (f"{error.format_message()} (see {command} --help)",)
    if isinstance(error, OSError) and error.strerror:
        return (f"{error.filename}: {error.strerror}" if error.filename else error.strerror,)
    return (error.format_message() if isinstance(error, click.ClickException) else str(error),)


def go_forms(arguments: Iterable[str]) -> list[str]:
    """Rewrite what Go's ``flag`` package takes and click doesn't.

    ``-port 30000`` → ``--port 30000``, ``-splitwise=false`` → ``--no-splitwise``. Raises click.UsageError for a
    truth value that is none.
    """
    known = {option.flag for option in _FLAGS} | {"--config-path", "--version", "--help"}
    truths = {option.flag: option for option in _FLAGS if option.kind is bool}
    rewritten = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        long = f"--{kebab(name.lstrip('-'))}"
        if equals and (name == "-V" or (long == "--version" and name.startswith("-"))):
            rewritten += ["--version"] if _truth("--version", value) else []
            continue
        if not name.startswith("-") or long not in known:
            rewritten.append(argument)
        elif equals and long in truths:
            rewritten.append(_truth_flag(truths[long], value))
        else:
            rewritten.append(f"{long}{equals}{value}")
    return rewritten


def without_extra(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Cut off what Go's ``flag`` package leaves alone: all from the first bare word behind a flag on.

    Returns what is kept and what is cut off. The first word of all is a command, or wrong; and the name of a command
    behind a flag is kept for the error that says where the flag belongs.
    """
    takes_value = {option.flag for option in _FLAGS if option.kind is not bool} | {"--config-path"}
    switches = {name for option in _FLAGS if option.kind is bool for name in (option.flag, _negated(option))}
    place = 0
    while place < len(arguments) and arguments[place].startswith("-"):
        if arguments[place] == "--":
            return list(arguments[:place]), list(arguments[place + 1 :])
        name, equals, _ = arguments[place].partition("=")
        if name not in takes_value | switches | {"--version", "-V", "--help", "-h"}:
            break  # unknown: an error
        place += 2 if name in takes_value and not equals else 1
    if (
        place == 0
        or place >= len(arguments)
        or arguments[place].startswith("-")
        or arguments[place] in _router.commands
    ):
        return list(arguments), []
    return list(arguments[:place]), list(arguments[place:])


def flags_for(options: Iterable[Declared]) -> list[click.Parameter]:
    """Make a click flag of each declared option. Values come as texts, for the declaration checks them."""
    return [_flag_for(option) for option in options]


def _flag_for(option: Declared) -> click.Option:
    if option.kind is bool:
        names = f"{option.flag}/{_negated(option)}"
        return click.Option([option.attribute, names], default=None, help=option.option.help)
    metavar = "|".join(option.option.choices) or _METAVARS[option.kind]
    return click.Option([option.attribute, option.flag], metavar=metavar, multiple=option.many, help=_help(option))


def _help(option: Declared) -> str:
    if option.many or not option.default:
        return option.option.help
    default = option.default if option.kind is str else number_text(option.default)
    unit = f" {option.option.unit}" if option.option.unit else ""
    return f"{option.option.help}  [default: {default}{unit}]"


def _negated(option: Declared) -> str:
    return f"--no-{kebab(option.attribute)}"


def _truth_flag(option: Declared, text: str) -> str:
    return option.flag if _truth(option.flag, text) else _negated(option)


def _truth(flag: str, text: str) -> bool:
    value = _TRUTHS.get(text.lower())
    if value is None:
        raise click.UsageError(f"{flag}: {text!r} is not true or false")
    return value


def _router_flags() -> list[click.Parameter]:
    path = click.Option(
        ["--config_path"], metavar="FILE", envvar=CONFIG_PATH_VARIABLE, help="YAML file with the configuration."
    )
    return [path, *flags_for(_FLAGS)]


def _given(values: Mapping[str, object]) -> dict[str, object]:
    """Return the router's flags among a command's ``values``, as ``config.load`` takes them."""
    return {f"{option.section}.{option.attribute}": values[option.attribute] for option in _FLAGS}


def _say_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        version = import_module("importlib.metadata").version
        parts = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools", "msgspec"))
        python = ".".join(map(str, sys.version_info[:3]))
        click.echo(f"fd-router {__version__} (Python {python}, {parts})")
        context.exit()


@click.group(
    params=_router_flags(),
    invoke_without_command=True,
    context_settings=_SETTINGS,
    epilog=_EPILOG,
    subcommand_metavar="[COMMAND]",
)
@click.option(
    "--version",
    "-V",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Say the version and exit.",
)
@click.pass_context
def _router(context: click.Context, /, config_path: str | None, **values: object) -> int:
    """Start the router, or run a command."""
    if context.invoked_subcommand:
        let_go()
        for name in ("config_path", *values):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name} belongs behind '{context.invoked_subcommand}'", context)
        return 0
    read = partial(load, config_path, _given(values), os.environ)
    loaded = _load(read)
    code: int = import_module("fd_router.app.process").run(loaded.config, loaded.warnings, load=read)
    return code


def _load(read: Callable[[], Loaded]) -> Loaded:
    """Read the configuration. Raises ConfigError whose lines begin as FastDeploy's do, which its operators look for."""
    try:
        return read()
    except ConfigError as error:
        begin = "Failed to load config: "
        raise ConfigError(*(x if x.startswith(begin) else begin + x for x in error.problems)) from None


@_router.command("check-config", params=_router_flags())
@click.option("--show", is_flag=True, help="Print the configuration in force, and where each value comes from.")
def _check_config(config_path: str | None, show: bool, **values: object) -> int:
    """Say all that is wrong with a configuration.

    Exits with 1 if anything is.
    """
    report = examine(config_path, _given(values), os.environ)
    problems = [*report.problems, *import_module("fd_router.app.config_checks").find_problems(report.config)]
    comment = "# " if show else ""  # what --show prints is a YAML file
    for warning in report.warnings:
        click.echo(f"{comment}warning: {warning}")
    for problem in problems:
        click.echo(f"{comment}error: {problem}")
    if show:
        click.echo(import_module("fd_router.config.reference").in_force(report.config, report.origins), nl=False)
    if not problems:
        click.echo(f"{comment}OK")
    return 1 if problems else 0


class _DeclaredCommand(click.Command):
    """A command whose flags are made of a Struct's options when they are needed.

    No tool is imported to start a router. ``struct`` is ``module:name`` in ``devtools``.
    """

    struct = ""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self.params:
            self.params = flags_for(declared(self.options()))
        return super().get_params(ctx)

    @classmethod
    def options(cls) -> type[Any]:
        """Import the Struct."""
        module, _, name = cls.struct.partition(":")
        struct: type[Any] = getattr(import_module(f"fd_router.devtools.{module}"), name)
        return struct

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Any:
        """Make the Struct from the flags. Raises click.UsageError."""
        given = {name: value for name, value in values.items() if value not in (None, ())}
        texts = {name: str(value) if isinstance(value, bool) else value for name, value in given.items()}
        try:
            return from_texts(cls.options(), texts)
        except ConfigError as error:
            raise click.UsageError("; ".join(error.problems), click.get_current_context()) from None


class _MockCommand(_DeclaredCommand):
    struct = "mock.options:MockOptions"

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, rows in import_module("fd_router.devtools.mock.manual").sections():
            with formatter.section(title):
                formatter.write_dl(rows)


class _SimulateCommand(_DeclaredCommand):
    struct = "simulate.options:SimulateOptions"


class _ReplayCommand(_DeclaredCommand):
    struct = "replay.options:ReplayOptions"


@_router.command("mock", cls=_MockCommand)
def _mock(**values: Any) -> int:
    """Run a mock instance.

    It is a FastDeploy-like server with an engine model instead of a GPU, for tests and trials.
    """
    code: int = import_module("fd_router.devtools.mock.run").run(_MockCommand.read(values))
    return code


@_router.command("simulate", cls=_SimulateCommand)
def _simulate(**values: Any) -> int:
    """Compare policies on a trace.

    Its requests go through the same policies as in the router, to modelled instances, in a fraction of the time.
    """
    code: int = import_module("fd_router.devtools.simulate.run").run(_with_trace(_SimulateCommand.read(values)))
    return code


@_router.command("replay", cls=_ReplayCommand)
def _replay(**values: Any) -> int:
    """Send a trace's requests to a running router.

    They go over HTTP when they are due, whether or not earlier ones are done, as users' requests do. Ctrl-C ends it
    with a table of what there is.
    """
    code: int = import_module("fd_router.devtools.replay.run").run(_with_trace(_ReplayCommand.read(values)))
    return code


def _with_trace(options: Any) -> Any:
    if not options.trace:
        raise click.UsageError(
            "--trace: give the trace, a JSONL file in Mooncake's format", click.get_current_context()
        )
    return options


@_router.command("demo")
@click.option("--keep", is_flag=True, help="Stay up afterwards, until Ctrl-C.")
@click.option(
    "--instances",
    type=click.IntRange(2, 64),
    help="Mock instances to start; of each role with --splitwise.  [default: 3, with --splitwise 2]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="The router's port; 0: a free one."
)
@click.option("--splitwise", is_flag=True, help="Show a PD-disaggregated fleet: prefill and decode instances in pairs.")
def _demo(keep: bool, instances: int | None, port: int, splitwise: bool) -> int:
    """Show a router with mock instances.

    Starts them, sends requests, kills an instance (one of each role with --splitwise), and shows that nothing is lost.
    """
    code: int = import_module("fd_router.devtools.demo.demo").run(
        keep=keep, instances=instances, port=port, splitwise=splitwise
    )
    return code


@_router.command("make-key")
@click.argument("name")
def _make_key(name: str) -> int:
    """Make an API key called NAME.

    The key, which is kept nowhere, goes to standard error; its entry for the file of access.keys-path, which holds a
    hash, to standard output: fd-router make-key team-a >> keys.yaml
    """
    keys = import_module("fd_router.admission.keys")
    key = keys.make_key()
    lines = keys.entry(name, keys.hash_key(key), begins_file=keys.is_new_file(sys.stdout))
    click.echo(key, err=True)
    click.echo(lines, nl=False)
    return 0


@_router.command("hash-key")
def _hash_key() -> int:
    """Read an API key from standard input and print its hash."""
    hash_key = import_module("fd_router.admission.keys").hash_key
    click.echo(hash_key(sys.stdin.readline().strip()))
    return 0


@_router.command("config-reference", hidden=True)
def _config_reference() -> None:
    """Print docs/configuration.md."""
    click.echo(import_module("fd_router.config.reference").reference(), nl=False)
