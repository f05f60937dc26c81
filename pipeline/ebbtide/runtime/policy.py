"""The tier policy: from what a phone says about itself to a tier, on integers alone.

The rule fits on a page, and every language writes it down the same way, so that a phone, a test and a simulation decide
alike to the last bit. There is no clock in it, no floating point and no chance: time is handed in. ``mh`` is
thermal headroom x 1000, ``dc`` a tenth of a degree Celsius. Tier 0 is the best and most expensive; a *demand* is the
tier that one signal asks for, 0 to 3.

**State.** ``tier``; one latch each for headroom, battery and battery temperature (the demand at the step before, 0 at
first); ``below_since_ms`` and ``last_ms``, both absent at first. Integers of 64 bits with a sign hold everything.

**One step**, in this order:

1. *Check.* Every signal has its type and lies in its range (`RANGES`), else ``policy.signal``; time is not before
   ``last_ms``, else ``policy.time``. The first fault in the order of the fields of `Signals` is told, time running
   backwards last. An error changes nothing.
2. *Gap.* More than ``gap_ms`` after ``last_ms`` the phone was asleep: ``below_since_ms`` becomes absent. ``last_ms``
   is now.
3. *Entries* of headroom E0, E1, E2 are the parameters ``enter_mh``, lowered (never raised) to what the phone says:
   with ``light_mh`` E0 = min(E0, light - 30) and E1 = min(E1, light); with ``moderate_mh`` E2 = min(E2, moderate).
4. *Demands*, in this order (the order of `DEMANDING`):

   * ``headroom``, if it is there and its age is at most ``stale_ms``: the highest level i + 1 for which
     ``headroom >= E[i]``, or ``headroom >= E[i] - hysteresis`` where the latch was above i.
   * ``status``, if there: ``status_floor[android_status]``.
   * ``apple_state``, if there: ``apple_floor[apple_state]``.
   * ``battery``, if its percentage is there and the phone does not charge: the highest level i + 1 for which
     ``percent <= enter[i]``, or ``percent < enter[i] + hysteresis`` where the latch was above i.
   * ``saver``, if on: ``saver_floor``.
   * ``battery_temperature``, as headroom with its own numbers, and only where nothing better is known of heat: no
     fresh headroom, no Apple state, an Android status of 0 or none.
   * ``application``: its minimum tier.

   A latch whose signal takes no part is 0 from then on. The largest demand counts; of equal ones the first names the
   reason; no signal is named (``none``) where all demands are 0.
5. *Bounds.* The demand is at most the application's maximum tier and the bundle's last tier. This does not change the
   name. Limits beyond the last tier mean the last tier, so that one application suits bundles of 1 to 4 tiers.
6. *Move.*

   * tier above the bound (the application lowered its maximum): to the bound at once, ``up:application``;
     ``below_since_ms`` is now.
   * demand above the tier: to the demand at once, ``down:SIGNAL``; ``below_since_ms`` becomes absent.
   * demand equal to the tier: ``keep:SIGNAL``; ``below_since_ms`` becomes absent.
   * demand below the tier: ``below_since_ms`` is now if it was absent. Once now is ``up_hold_ms`` or more after it: one
     tier up, ``up``, and ``below_since_ms`` is now. Until then ``hold``.

The entries come from Google's Unreal plug-in, the hysteresis and "down at once, up by one" from the Pixel thermal HAL
(see `ebbtide.bundle.DEFAULT_POLICY`). The vectors in ``tests/vectors/policy`` hold every language to this text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ebbtide.bundle.consistency import fault_of_policy
from ebbtide.bundle.manifest import PolicyEntry
from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy_signals import RANGES, Signals, check_signals

__all__ = ["DEMANDING", "MAX_TIERS", "RANGES", "Decision", "Policy", "PolicyState", "Signals"]

MAX_TIERS: Final = 4
"""As many as there are demands."""
LIGHT_MARGIN_MH: Final = 30
"""How far below the phone's own LIGHT the first demand begins: 0.9 degrees."""
STOP_STATUS: Final = 5
"""THERMAL_STATUS_EMERGENCY; 6 is SHUTDOWN."""
STOP_STATE: Final = 3
"""ProcessInfo.ThermalState.critical."""


DEMANDING: Final[dict[str, tuple[str, ...]]] = {
    "headroom": ("headroom_mh", "headroom_age_ms", "light_mh", "moderate_mh"),
    "status": ("android_status",),
    "apple_state": ("apple_state",),
    "battery": ("battery_percent", "charging"),
    "saver": ("saver",),
    "battery_temperature": ("battery_temperature_dc",),
    "application": (),
}
"""What can demand a tier, in the order in which equal demands win, and the fields of `Signals` that it goes by."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A tier and why.

    Attributes:
        tier: 0 to 3, the one to use from now on.
        reason: ``keep:SIGNAL``, ``keep:none``, ``down:SIGNAL``, ``hold``, ``up`` or ``up:application``, with SIGNAL one
            of `DEMANDING`.
        signal: what demanded most, one of `DEMANDING` or ``none``; after ``hold`` and ``up`` it demands less than the
            tier that was in force.
        limits: the application's minimum and maximum tier that held.
        signals: the reading.
    """

    tier: int
    reason: str
    signal: str
    limits: tuple[int, int]
    signals: Signals

    @property
    def used(self) -> dict[str, int | bool]:
        """The values that decided: those of the signal that demanded most, or all of them where none demands anything.

        Absent ones are left out. The application has ``minimum_tier`` and ``maximum_tier``.
        """
        if self.signal == "application" or self.reason == "up:application":
            return {"minimum_tier": self.limits[0], "maximum_tier": self.limits[1]}
        names = DEMANDING[self.signal] if self.signal != "none" else tuple(RANGES)[1:]
        if self.signals.headroom_mh is None:
            names = tuple(name for name in names if name != "headroom_age_ms")
        values = {name: getattr(self.signals, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def should_stop(self) -> bool:
        """Whether the application should stop, because the phone is about to shut down or to stop it.

        That is an Android status of EMERGENCY or SHUTDOWN, or Apple's ``critical``. Nothing here refuses to run.
        """
        status, state = self.signals.android_status, self.signals.apple_state
        return (status is not None and status >= STOP_STATUS) or (state is not None and state >= STOP_STATE)


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What a policy remembers from one step to the next; see the text of this module."""

    tier: int
    headroom: int = 0
    battery: int = 0
    battery_temperature: int = 0
    below_since_ms: int | None = None
    last_ms: int | None = None


class Policy:
    """Decides which tier to use, one reading after the other. The module's text is the rule.

    For one thread at a time. A step takes a few microseconds and allocates one `Decision`.

    Args:
        entry: the parameters, from a manifest.
        tiers: how many tiers the bundle has, 1 to 4.
        minimum_tier: the application's best tier to use, 0 to 3; the policy begins with it.
        maximum_tier: its cheapest, 0 to 3 and not less than the minimum; None for no limit.

    Raises:
        EbbtideError: ``policy.parameters`` or ``policy.limits``.
    """

    __slots__ = (
        "_battery",
        "_battery_temperature",
        "_below_since_ms",
        "_entry",
        "_headroom",
        "_highest",
        "_last_ms",
        "_limits",
        "_lowest",
        "_tier",
        "_tiers",
    )

    def __init__(
        self, entry: PolicyEntry, tiers: int, *, minimum_tier: int = 0, maximum_tier: int | None = None
    ) -> None:
        fault = fault_of_policy(entry)
        if fault is not None:
            name, message, expected = fault
            raise EbbtideError("policy.parameters", message, expected=expected, place=name)
        if type(tiers) is not int or not 1 <= tiers <= MAX_TIERS:
            raise EbbtideError(
                "policy.parameters",
                f"A policy cannot choose among {tiers!r} tiers.",
                expected=f"1 to {MAX_TIERS}",
                found=repr(tiers),
                place="tiers",
            )
        self._entry = entry
        self._tiers = tiers
        self.limit(minimum_tier, maximum_tier)
        self._tier = self._lowest
        self._headroom = self._battery = self._battery_temperature = 0
        self._below_since_ms: int | None = None
        self._last_ms: int | None = None

    @property
    def tier(self) -> int:
        """The tier in force: that of the last decision."""
        return self._tier

    @property
    def tiers(self) -> int:
        """How many tiers the bundle has."""
        return self._tiers

    @property
    def entry(self) -> PolicyEntry:
        """The parameters."""
        return self._entry

    @property
    def limits(self) -> tuple[int, int]:
        """The application's minimum and maximum tier, as far as the bundle has them."""
        return self._limits

    @property
    def state(self) -> PolicyState:
        """A copy of what is remembered."""
        return PolicyState(
            self._tier, self._headroom, self._battery, self._battery_temperature, self._below_since_ms, self._last_ms
        )

    def limit(self, minimum: int = 0, maximum: int | None = None) -> None:
        """Set the application's limits. They hold from the next step on, which moves the tier at once, either way.

        Args:
            minimum: the best tier to use, 0 to 3.
            maximum: the cheapest, 0 to 3 and not less than the minimum; None for no limit. One beyond the bundle's last
                tier means the last.

        Raises:
            EbbtideError: ``policy.limits``; the limits in force then stay.
        """
        last = MAX_TIERS - 1
        greatest = last if maximum is None else maximum
        if type(minimum) is not int or type(greatest) is not int or not 0 <= minimum <= greatest <= last:
            raise EbbtideError(
                "policy.limits",
                f"The minimum tier {minimum!r} and the maximum tier {maximum!r} are no limits.",
                expected=f"whole numbers with 0 <= minimum <= maximum <= {last}",
                found=f"{minimum!r} and {maximum!r}",
            )
        self._lowest, self._highest = min(minimum, self._tiers - 1), min(greatest, self._tiers - 1)
        self._limits = (self._lowest, self._highest)

    def step(self, signals: Signals) -> Decision:
        """Take one reading and decide.

        Raises:
            EbbtideError: ``policy.signal`` (place: the field) or ``policy.time``; nothing has changed then.
        """
        check_signals(signals)
        now, last = signals.t_ms, self._last_ms
        if last is not None:
            if now < last:
                raise EbbtideError(
                    "policy.time",
                    f"The reading at {now} ms comes after one at {last} ms.",
                    expected=f"t_ms of at least {last}",
                    found=str(now),
                    place="t_ms",
                )
            if now - last > self._entry.gap_ms:
                self._below_since_ms = None
        self._last_ms = now
        demand, signal = self._demand(signals)
        reason = self._move(demand if demand < self._highest else self._highest, signal, now)
        return Decision(self._tier, reason, signal, self._limits, signals)

    def _demand(self, signals: Signals) -> tuple[int, str]:
        """The largest demand and the first signal that has it. Sets the latches."""
        entry = self._entry
        demand, signal = 0, "none"
        heat, status, state = signals.headroom_mh, signals.android_status, signals.apple_state
        if heat is not None and signals.headroom_age_ms <= entry.stale_ms:
            enter = _entries(entry.enter_mh, signals.light_mh, signals.moderate_mh)
            self._headroom = demand = _latched(self._headroom, heat, enter, entry.hysteresis_mh)
            if demand:
                signal = "headroom"
            blind = False
        else:
            self._headroom = 0
            blind = state is None and not status
        if status is not None and entry.status_floor[status] > demand:
            demand, signal = entry.status_floor[status], "status"
        if state is not None and entry.apple_floor[state] > demand:
            demand, signal = entry.apple_floor[state], "apple_state"
        percent = signals.battery_percent
        if percent is not None and not signals.charging:
            self._battery = wanted = _latched_low(
                self._battery, percent, entry.battery_enter_percent, entry.battery_hysteresis
            )
            if wanted > demand:
                demand, signal = wanted, "battery"
        else:
            self._battery = 0
        if signals.saver and entry.saver_floor > demand:
            demand, signal = entry.saver_floor, "saver"
        warmth = signals.battery_temperature_dc
        if blind and warmth is not None:
            self._battery_temperature = wanted = _latched(
                self._battery_temperature,
                warmth,
                entry.battery_temperature_enter_dc,
                entry.battery_temperature_hysteresis_dc,
            )
            if wanted > demand:
                demand, signal = wanted, "battery_temperature"
        else:
            self._battery_temperature = 0
        if self._lowest > demand:
            demand, signal = self._lowest, "application"
        return demand, signal

    def _move(self, demand: int, signal: str, now: int) -> str:
        """Set the tier that follows from a demand within the bounds; the reason."""
        tier = self._tier
        if tier > self._highest:
            self._tier, self._below_since_ms = self._highest, now
            return "up:application"
        if demand >= tier:
            self._tier, self._below_since_ms = demand, None
            return ("down:" if demand > tier else "keep:") + signal
        since = self._below_since_ms
        if since is None:
            self._below_since_ms = since = now
        if now - since < self._entry.up_hold_ms:
            return "hold"
        self._tier, self._below_since_ms = tier - 1, now
        return "up"


def _entries(enter: tuple[int, ...], light: int | None, moderate: int | None) -> tuple[int, ...]:
    """The entries, lowered to the phone's own thresholds."""
    if light is None and moderate is None:
        return enter
    first, second, third = enter
    # Comparisons, where `min` would call a function: this runs at every step.
    if light is not None:
        if light - LIGHT_MARGIN_MH < first:
            first = light - LIGHT_MARGIN_MH
        if light < second:
            second = light
    if moderate is not None and moderate < third:
        third = moderate
    return first, second, third


def _latched(before: int, value: int, enter: tuple[int, ...], hysteresis: int) -> int:
    """The highest level that a value enters, or that it was in before and does not leave."""
    first, second, third = enter
    if value >= third or (before > 2 and value >= third - hysteresis):
        return 3
    if value >= second or (before > 1 and value >= second - hysteresis):
        return 2
    return 1 if value >= first or (before > 0 and value >= first - hysteresis) else 0


def _latched_low(before: int, value: int, enter: tuple[int, ...], hysteresis: int) -> int:
    """The same where less is worse; a level is left at the entry plus the hysteresis."""
    first, second, third = enter
    if value <= third or (before > 2 and value < third + hysteresis):
        return 3
    if value <= second or (before > 1 and value < second + hysteresis):
        return 2
    return 1 if value <= first or (before > 0 and value < first + hysteresis) else 0
