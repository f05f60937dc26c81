"""Mean over everything but the channels, then a perceptron with four hidden layers."""

from __future__ import annotations

from ebbtide.exits.protocol import ExitType
from ebbtide.exits.types.pool_mlp import PoolMlp


class PoolMlpDeep(PoolMlp):
    """DyCE's mlp5 (arXiv:2403.01695): c w + 3 w^2 + w classes MACs, w of `hidden_width`."""

    name = "pool-mlp-deep"
    depth = 4


TYPE: ExitType = PoolMlpDeep()
