"""``simulate --tune``: prints the weights that suit a trace as YAML to paste, and how far they are to be believed."""

from __future__ import annotations

import sys

import msgspec

from fd_router.config.options import kebab
from fd_router.devtools.simulate.tuning import Tuned


def show_tuned(tuned: Tuned, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        low, high = tuned.interval
        document = {**msgspec.to_builtins(tuned), "mean": tuned.mean, "interval": [low, high], "is_gain": tuned.is_gain}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    else:
        sys.stdout.write(yaml_of(tuned))


def yaml_of(tuned: Tuned) -> str:
    """Return a section to paste into the router's file; comments say what it is worth."""
    low, high = tuned.interval
    lines = [
        f"# mean time to first token, after over before: {tuned.mean:.3f} (95 % between {low:.3f} and {high:.3f})",
        *(f"#   {which}: {ratio:.3f}" for which, ratio in tuned.ratios),
        "# the search has seen the first half with the first seed only",
    ]
    if not tuned.is_gain:
        lines.append("# NO GAIN BEYOND DOUBT: keep the weights that you have")
    lines += ["scheduler:", f"  policy: {tuned.policy}"]
    weights = {name: f"{kebab(name)}: {value:g}" for name, value in tuned.after.items()}
    width = max(map(len, weights.values()))
    lines += [f"  {text:{width}}  # {tuned.before[name]:g} before" for name, text in weights.items()]
    return "\n".join(lines) + "\n"
