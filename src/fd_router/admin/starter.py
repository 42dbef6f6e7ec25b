"""The starter: a commented configuration, and a list of instances if they are named, for a router that is new."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fd_router.config.host_names import is_name
from fd_router.config.loading import POLICIES
from fd_router.config.options import did_you_mean
from fd_router.errors import ConfigError

CONFIG, REGISTER = "config.yaml", "register.yaml"

CHOICES: Final[Mapping[str, str]] = {
    "request_num": "fewest running requests; the default, right for most",
    "cache_aware": "the instance that knows most of the prompt, load considered: conversations, long system prompts",
    "ttft_aware": "the soonest first token, predicted from prefixes and queues; best for long prompts",
    "power_of_two": "the better of two at random; for very large fleets",
    "round_robin": "one after the other",
}
"""Policies that somebody new chooses among; docs/scheduling.md has all."""

_PREFILL_TOKENS: Final = "process_tokens"

_FIT: Final[Mapping[str, tuple[str, str]]] = {
    "request_num": (_PREFILL_TOKENS, "request_num"),
    "cache_aware": ("cache_aware", "request_num"),
    "ttft_aware": ("ttft_aware", "ttft_aware"),
}
"""What prefill and decode instances are chosen by, where that is another policy for each."""


class Member(NamedTuple):
    """An instance that is named."""

    role: str
    host: str
    port: int


class Answers(msgspec.Struct, frozen=True):
    """What there is to know for a beginning."""

    port: int = 30000
    splitwise: bool = False
    policy: str = "request_num"
    instances: tuple[Member, ...] = ()


def parse_instances(text: str, *, splitwise: bool) -> tuple[Member, ...]:
    """Read ``10.0.0.1:8000, 10.0.0.2:8000``; with ``splitwise`` ``prefill=10.0.0.1:8000, decode=10.0.0.2:8000``.

    Raises ConfigError with a line for each that can't be read.
    """
    members: list[Member] = []
    problems: list[str] = []
    for part in filter(None, (word.strip() for word in text.split(","))):
        try:
            members.append(_member(part, splitwise=splitwise))
        except ValueError as error:
            problems.append(f"--instances: {part!r}: {error}")
    if problems:
        raise ConfigError(*problems)
    return tuple(members)


def _member(text: str, *, splitwise: bool) -> Member:
    role, equals, address = text.rpartition("=")
    allowed = ("prefill", "decode") if splitwise else ("mixed",)
    if equals or splitwise:
        if role not in allowed:
            raise ValueError(f"write {' or '.join(f'{name}=10.0.0.1:8000' for name in allowed)}")
    else:
        role = "mixed"
    host, _, port = address.removeprefix("http://").rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("write a host and a port: 10.0.0.1:8000")
    if is_name(host.lower()):
        return Member(role, host.lower(), int(port))
    try:
        return Member(role, str(ipaddress.ip_address(host.strip("[]"))), int(port))
    except ValueError:
        raise ValueError("the host is neither an IP address nor a host name: 10.0.0.1:8000") from None


def require_policy(name: str) -> str:
    """Return ``name``, which must be a policy's. Raises ConfigError."""
    if name not in POLICIES:
        raise ConfigError(f"--policy: {name!r} is not one of {', '.join(POLICIES)}{did_you_mean(name, POLICIES)}")
    return name


def files_of(answers: Answers) -> dict[str, str]:
    """Return the files to write, by name."""
    files = {CONFIG: _configuration(answers)}
    if answers.instances:
        files[REGISTER] = _register(answers.instances)
    return files


def write(files: Mapping[str, str], folder: Path, *, force: bool = False) -> list[Path]:
    """Write them, all or none; what is there stays, unless ``force``. Raises ConfigError, OSError."""
    paths = {folder / name: text for name, text in files.items()}
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise ConfigError(*(f"{path} is there already; --force replaces it" for path in there))
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in paths.items():
        path.write_text(text, encoding="utf-8")
    return list(paths)


def next_steps(answers: Answers, folder: Path) -> Sequence[str]:
    """Say what to type now."""
    change = [] if folder == Path() else [f"cd {folder}"]
    steps = [*change, f"fd-router check-config --config_path {CONFIG}", f"fd-router --config_path {CONFIG}"]
    router = f"127.0.0.1:{answers.port}"
    if not answers.instances:
        roles = (" --role prefill", " --role decode") if answers.splitwise else ("",)
        steps += [f"fd-router mock --port {8100 + n}{role} --router {router}" for n, role in enumerate(roles)]
    return [*steps, f"fd-router status --router {router}"]


def _configuration(answers: Answers) -> str:
    return f"""\
# A router for FastDeploy instances. Every option: docs/configuration.md.
# fd-router check-config --config_path {CONFIG} says what is wrong; --show prints what is in force.
server:
  port: {answers.port}
  splitwise: {str(answers.splitwise).lower()}              # true: prefill and decode in pairs; false: mixed instances
  # host: 127.0.0.1            # only this machine may connect; without: everybody who reaches it

scheduler:
{_scheduler(answers)}
manager:
{_manager(answers)}  # state-path: state.json      # instances that registered themselves are known after a restart

log:
  output: stdout               # file: logs/router.log, rotated
  level: info

proxy:
  first-byte-timeout-secs: 1800    # how long an instance may take to begin an answer
  # request-timeout-secs: 600      # how long a request may take in all

# protection:
#   max-requests-per-instance: 64  # more requests wait in the router

# access:
#   keys-path: keys.yaml           # API keys for clients: fd-router make-key NAME >> keys.yaml
#   admin-token-path: admin.token  # who may see and change the fleet
"""


def _scheduler(answers: Answers) -> str:
    why = CHOICES.get(answers.policy, "see docs/scheduling.md")
    if not answers.splitwise:
        return f"  policy: {answers.policy}    # {why}\n"
    prefill, decode = _FIT.get(answers.policy, (answers.policy, answers.policy))
    why = "fewest prompt tokens to prefill" if prefill == _PREFILL_TOKENS else why
    return f"  prefill-policy: {prefill}    # {why}\n  decode-policy: {decode}\n"


def _manager(answers: Answers) -> str:
    if answers.instances:
        return f"  register-path: {REGISTER}    # these instances, and those that register themselves\n"
    return f"  # register-path: {REGISTER}    # instances that don't register themselves\n"


def _register(members: Sequence[Member]) -> str:
    lines = "".join(
        f'  - {{role: {member.role}, host_ip: "{member.host}", port: {member.port}}}\n' for member in members
    )
    return f"# Instances that are kept: probed until they are up, and again when they died.\ninstances:\n{lines}"
