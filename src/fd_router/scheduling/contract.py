"""The contract of policies as one import path, with the names that plug-ins were written for before.

A plug-in may take all that it needs from here. The old names of what has become one base class stay: a
class that derives from one of them is read as any other (``plugins.adapter``).
"""

from __future__ import annotations

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Choice, Environment, Later, OnChoice, Predictions, Timer
from fd_router.scheduling.explanation import Explanation, Standing
from fd_router.scheduling.policy import Need, NoOptions, Policy, PolicyDecorator
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.reservation import InstanceT, Reservable, Reservation
from fd_router.scheduling.tracker import RequestTracker


class Explaining:
    """A policy with an ``explain``."""


class Learner:
    """A policy with a ``place``, today's ``on_dispatch``."""


class Leavable:
    """A policy with an ``on_gone``, today's ``on_instance_unavailable``."""


class Placement:
    """A request tracker."""


class Patient(Placement):
    """A request tracker with a ``waits``, today's ``hold``."""


__all__ = [
    "Candidate",
    "Choice",
    "Environment",
    "Explaining",
    "Explanation",
    "InstanceT",
    "Later",
    "Learner",
    "Leavable",
    "Need",
    "NoOptions",
    "OnChoice",
    "Patient",
    "Placement",
    "Policy",
    "PolicyDecorator",
    "Predictions",
    "RequestTracker",
    "RequestView",
    "Reservable",
    "Reservation",
    "Standing",
    "Timer",
]
