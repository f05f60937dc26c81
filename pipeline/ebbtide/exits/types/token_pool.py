"""Class token and mean of the other tokens, then one linear layer: for transformers."""

from __future__ import annotations

from torch import nn

from ebbtide.exits.place import Place
from ebbtide.exits.pools import TokenPool
from ebbtide.exits.protocol import Exit, ExitType


class TokenLinear:
    """2 C classes MACs: late blocks gather in the class token what the classifier reads, early ones have not yet."""

    name = "token-pool"

    def unfit(self, place: Place) -> str | None:
        """It needs a class token."""
        return None if place.lead_tokens else "there is no class token, and the mean of all tokens is pool-linear"

    def build(self, place: Place) -> Exit:
        """A fresh exit; see `ExitType.build`."""
        pool = TokenPool(place.channels, place.lead_tokens)
        return Exit(pool, nn.Linear(pool.features, place.classes))


TYPE: ExitType = TokenLinear()
