"""Policies as the simulator sees them: something that looks at a phone now and then and names a tier.

A policy is one object a run, with integers for its state. How often it looks, and how far ahead it asks for headroom,
are facts of the policy, because asking changes what Android answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class View:
    """What an application can learn of its phone in one look.

    Attributes:
        t_ms: monotonic.
        headroom: as Android answered, NaN included; None if the policy does not ask, or the system has none.
        status: of Android; None on other systems.
        state: of iOS; None on other systems.
        battery: level, 0 to 1.
        speed: how fast the chip is, 1 if the system holds nothing back (what a latency shows).
    """

    t_ms: int
    headroom: float | None
    status: int | None
    state: int | None
    battery: float
    speed: float


class SimulatedPolicy(Protocol):
    """Decides for one run."""

    def look(self, view: View) -> int:
        """The tier to use from now on, 0 the best."""


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """A policy to compare.

    Attributes:
        name: a short word, unique in a comparison.
        title: for tables.
        period_s: how often it looks.
        forecast_s: the forecast it asks headroom for; None if it asks for none.
        listens: whether it also looks at once when the status or state changes.
        make: a new one for a run.
    """

    name: str
    title: str
    period_s: int
    forecast_s: int | None
    listens: bool
    make: Callable[[], SimulatedPolicy]


class Fixed:
    """One tier whatever happens."""

    def __init__(self, tier: int) -> None:
        self._tier = tier

    def look(self, view: View) -> int:
        """The tier."""
        return self._tier
