"""Which tiers an application lets the policy choose: the accuracy floor."""

from __future__ import annotations

from ebbtide.bundle.manifest import ConfigurationEntry, Manifest
from ebbtide.errors import EbbtideError, nearest


class Tiers:
    """A bundle's tiers under an accuracy floor.

    The floor is held against what a configuration promises (its accuracy on *select*), because that is known of every
    configuration and is what the tiers were chosen by.

    Args:
        manifest: a checked manifest.
        minimum_accuracy: 0 to 1, or None for no floor.

    Raises:
        EbbtideError: ``runtime.floor`` if the floor is out of range or no tier reaches it.
    """

    def __init__(self, manifest: Manifest, minimum_accuracy: float | None) -> None:
        self._entries = {entry.id: entry for entry in manifest.configurations}
        self._tiers = manifest.tiers
        self._floor = minimum_accuracy
        if minimum_accuracy is None:
            return
        if not 0 <= minimum_accuracy <= 1:
            raise EbbtideError(
                "runtime.floor",
                f"{minimum_accuracy} is not an accuracy.",
                expected="a share of 0 to 1",
                found=str(minimum_accuracy),
                hint="write 0.9 for 90 %",
                place="minimum_accuracy",
            )
        if not any(self.allows(name) for name in self._tiers):
            best = max(self._promised(name) for name in self._tiers)
            raise EbbtideError(
                "runtime.floor",
                f"No tier promises an accuracy of {minimum_accuracy}.",
                expected=f"at most {best}, what the best tier promises",
                found=str(minimum_accuracy),
                place="minimum_accuracy",
            )

    @property
    def minimum_accuracy(self) -> float | None:
        """The floor in force."""
        return self._floor

    def entry(self, configuration_id: str) -> ConfigurationEntry:
        """A configuration by its id.

        Raises:
            EbbtideError: ``runtime.configuration`` if there is none.
        """
        if configuration_id not in self._entries:
            close = nearest(configuration_id, list(self._entries))
            raise EbbtideError(
                "runtime.configuration",
                f"The bundle has no configuration {configuration_id!r}.",
                expected=f"one of {', '.join(self._entries)}",
                hint=f"did you mean {close!r}?" if close else None,
                place=configuration_id,
            )
        return self._entries[configuration_id]

    def allows(self, configuration_id: str) -> bool:
        """Whether a configuration promises at least the floor."""
        return self._floor is None or self._promised(configuration_id) >= self._floor

    def refuse_below_floor(self, configuration_id: str) -> None:
        """Raise ``runtime.below_floor`` for a configuration that promises less than the floor."""
        if not self.allows(configuration_id):
            raise EbbtideError(
                "runtime.below_floor",
                f"Configuration {configuration_id!r} is below the application's accuracy floor.",
                expected=f"a promised accuracy of at least {self._floor}",
                found=str(self._promised(configuration_id)),
                hint="choose another configuration or lower the floor",
                place=configuration_id,
            )

    def clamp(self, tier: int) -> tuple[int, str | None]:
        """The tier to use when `tier` is wanted, and why it is another one (None if it is the same).

        That is the nearest better tier that reaches the floor, else the nearest cheaper one.

        Raises:
            EbbtideError: ``runtime.tier`` if there is no such tier.
        """
        if not 0 <= tier < len(self._tiers):
            raise EbbtideError(
                "runtime.tier",
                f"The bundle has no tier {tier}.",
                expected=f"0 to {len(self._tiers) - 1}",
                found=str(tier),
                place="tier",
            )
        for candidate in (*range(tier, -1, -1), *range(tier + 1, len(self._tiers))):
            if self.allows(self._tiers[candidate]):
                if candidate == tier:
                    return tier, None
                promised = self._promised(self._tiers[tier])
                return candidate, f"tier {tier} promises {promised}, the application's floor is {self._floor}"
        raise EbbtideError("api.internal", "No tier reaches the floor.", place="minimum_accuracy")

    def id_of(self, tier: int) -> str:
        """The configuration that a tier names."""
        return self._tiers[tier]

    def _promised(self, configuration_id: str) -> float:
        return self._entries[configuration_id].expected.select.accuracy
