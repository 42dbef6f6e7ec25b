"""``simulate --what-if``: a recorded day under other policies and weights, and first how far that is to be believed."""

from __future__ import annotations

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.recordings.arrivals import Arrivals, arrivals_of
from fd_router.devtools.recordings.calibration import measured
from fd_router.devtools.recordings.reading import Recording, is_recording, read_recording
from fd_router.devtools.recordings.recomputing import Agreement, recompute
from fd_router.devtools.report.outcomes import Result, Summary
from fd_router.devtools.simulate.simulator import Fleet
from fd_router.devtools.simulate.variants import Variant, variants_of
from fd_router.errors import ConfigError

SAME = 0.999
"""The share of the decisions that must come out the same; one of less lacks something that the policy looked at."""

NEAR = 0.15
"""By how much the simulated times to first token may differ from those recorded, mean and p90."""


class WhatIf(msgspec.Struct, frozen=True):
    """A recording, ready to be simulated."""

    arrivals: Arrivals
    fleet: Fleet
    variants: list[Variant]  # the first is the recorded one
    agreement: Agreement
    recorded: Result

    def truth(self, simulated: Result) -> list[str]:
        """Say how true it is, ``simulated`` being the run of the recorded policy. What isn't begins with ``NOT``."""
        agreement, recorded = self.agreement, self.recorded.summary()
        now = msgspec.structs.replace(simulated, outcomes=self.arrivals.observed(simulated.outcomes)).summary()
        same = f"{agreement.same:,} of {agreement.decisions:,} decisions ({agreement.share:.2%}) come out the same"
        lines = [f"{'' if agreement.share >= SAME else 'NOT TRUE: '}recomputed from what was recorded, {same}"]
        return lines + [_compared(name, recorded, now) for name in ("mean", "p90")]


def prepare(path: str, policies: str, settings: tuple[str, ...], config_path: str, fleet: Fleet, limit: int) -> WhatIf:
    """Read the recording, recompute its decisions, and measure its fleet. Raises TraceError, ConfigError, OSError.

    ``fleet``: what it is taken to be where the recording doesn't show it.
    """
    if not is_recording(path):
        raise ConfigError(
            f"--what-if: {path} is no recording of a router (telemetry.recording-folder); leave it out for a trace"
        )
    recording = read_recording(path)
    variants = _variants(recording, policies, settings, config_path)
    arrivals = arrivals_of(recording, limit=limit)
    fleet = measured(recording, arrivals.served, fleet)
    recorded = Result("as recorded", arrivals.observed(arrivals.outcomes), fleet.instances, 0.0)
    return WhatIf(arrivals, fleet, variants, recompute(recording, variants[0].options), recorded)


def _variants(recording: Recording, policies: str, settings: tuple[str, ...], config_path: str) -> list[Variant]:
    """Return the recorded policy with the options that it had, and then the others with these, and theirs over them."""
    made = next(iter(recording.prefilling.values()), None)
    if made is None:
        raise ConfigError("the recording names no policy")
    had = recording.header.options
    own = variants_of(made.name, (), config_path)[0]
    names = {name for name in had if name in SchedulerConfig.__struct_fields__}
    first = msgspec.structs.replace(
        own,
        name=f"{made.name}, simulated",
        options=msgspec.structs.replace(own.options, **{name: had[name] for name in names}),
    )
    as_recorded = tuple(f"{name.replace('_', '-')}={had[name]}" for name in sorted(names))
    return [first, *variants_of(policies, (*as_recorded, *settings), config_path)]


def _compared(name: str, recorded: Summary, simulated: Summary) -> str:
    was: float = getattr(recorded, f"ttft_{name}")
    now: float = getattr(simulated, f"ttft_{name}")
    is_near = abs(now - was) <= NEAR * was
    change = f"{now / was - 1:+.1%}" if was else "?"
    return (
        f"{'' if is_near else 'NOT TRUE: '}simulated from the arrivals alone, the {name} time to first token is "
        f"{now:.3g} s; {was:.3g} s were recorded ({change})"
    )
