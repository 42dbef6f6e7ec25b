"""What policies look at beside the candidates, where it is recorded: the prefix index and the instances' own loads."""

from __future__ import annotations

from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.prefix.told_index import ToldPrefixIndex
from fd_router.scheduling.recording import events
from fd_router.scheduling.recording.recorder import Recorder


class RecordedIndex(PrefixIndex):
    """A prefix index whose changes from outside are written down; those of policies follow from what they are told."""

    recorder: Recorder  # set once it is made

    def remove(self, name: str) -> None:
        """See ``PrefixIndex``."""
        recorder = self.recorder
        if recorder.steps:
            super().remove(name)
            return
        with recorder as now:
            recorder.write(events.Forgotten(now, recorder.instance(name)))
            super().remove(name)

    def set_limit(self, name: str, blocks: int) -> None:
        """See ``PrefixIndex``."""
        recorder = self.recorder
        if recorder.steps:
            super().set_limit(name, blocks)
            return
        with recorder as now:
            recorder.write(events.Limited(now, recorder.instance(name), blocks))
            super().set_limit(name, blocks)

    def sweep(self, most: int = 1000) -> bool:
        """See ``PrefixIndex``."""
        recorder = self.recorder
        with recorder as now:
            recorder.write(events.Swept(now, most))
            return super().sweep(most)


class RecordedToldIndex(RecordedIndex, ToldPrefixIndex):
    """The same of a router that isn't alone. What others tell isn't written down: only their own recordings have it."""


class RecordedLoads(ReportedLoads):
    """Loads whose figures are written down as they come."""

    recorder: Recorder  # set once it is made

    def report(self, url: str, running: float, waiting: float, own: int) -> None:
        """See ``ReportedLoads``."""
        recorder = self.recorder
        with recorder as now:
            recorder.write(events.Reported(now, recorder.instance(url), running, waiting, own))
            super().report(url, running, waiting, own)

    def forget(self, url: str) -> None:
        """See ``ReportedLoads``."""
        recorder = self.recorder
        if recorder.steps:  # by age, which follows from the time
            super().forget(url)
            return
        with recorder as now:
            recorder.write(events.Unreported(now, recorder.instance(url)))
            super().forget(url)
