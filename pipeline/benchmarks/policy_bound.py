"""How well anything could do on a simulated phone that knew the whole run in advance.

Dynamic programming backwards over time on a grid of the two temperatures and the tier in force, every 10 s: the
greatest ``quality - a * throttled - b * changes per hour`` for prices a and b. For any prices, the quality of whatever
policy is at most that optimum plus ``a * throttled + b * changes`` of the policy; the least over many prices is
the bound. It is optimistic where the model is simplified: the power cap has all of its integral at once, the battery's
loss is that of a full battery, and there is no sensor noise. Interpolation on the grid makes it an estimate, no proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from ebbtide.simulation import Phone, Scenario, Work, load_system

STEP_S = 10
SKIN_C = np.arange(18.0, 52.01, 0.25)
BODY_C = np.arange(18.0, 48.01, 0.5)
FULL_V, LOSS_OHM = 4.2, 0.1


@dataclass(frozen=True)
class Prices:
    """What a policy pays: quality for a share of time throttled, and for a change of tier an hour."""

    throttled: float
    change_per_h: float


def optimum(phone: Phone, scenario: Scenario, work: Work, run: int, prices: Sequence[Prices]) -> list[float]:
    """The greatest priced quality of one run, for each of the prices."""
    model, cap = phone.heat, load_system(phone.system.value).cap
    air = float(scenario.air_c[run])
    steps = scenario.seconds // STEP_S
    duty = scenario.duty[: steps * STEP_S, run].reshape(steps, STEP_S).mean(axis=1)
    foreign = scenario.foreign_w[: steps * STEP_S, run].reshape(steps, STEP_S).mean(axis=1)
    skin, body = np.meshgrid(SKIN_C, BODY_C, indexing="ij")
    acting = skin > cap.set_c - cap.begin_below_c
    limit = cap.sustained_w + cap.proportional_w_c * (cap.set_c - skin) + cap.integral_limit_w
    capped = np.where(acting, np.maximum(limit, cap.lowest_w), np.inf)
    tiers, count = len(work.tier_w), len(prices)
    a = np.array([one.throttled for one in prices])[:, None, None]
    b = np.array([one.change_per_h for one in prices])[:, None, None] / (scenario.seconds / 3600)
    # value[price, tier in force] on the grid
    value = np.zeros((count, tiers, *skin.shape))
    best = np.empty((count, tiers, *skin.shape))
    for step in reversed(range(steps)):
        for tier in range(tiers):
            wanted = work.idle_w + work.tier_w[tier] * duty[step] + foreign[step]
            soc = np.minimum(wanted, capped)
            loss = ((soc + work.rest_w) / FULL_V) ** 2 * LOSS_OHM
            between = (skin - body) / model.patch_to_body_k_w
            patch = model.surface_g_w_k * model.patch_surface
            next_skin = skin + STEP_S / model.patch_j_k * (soc - between - patch * (skin - air))
            to_air = (model.surface_g_w_k - patch) * (body - air)
            next_body = body + STEP_S / model.body_j_k * (work.rest_w + loss + between - to_air)
            at = np.stack([(next_skin - SKIN_C[0]) / 0.25, (next_body - BODY_C[0]) / 0.5])
            reward = work.quality[tier] * duty[step] / duty.sum() - a * (wanted > capped) / steps
            for price in range(count):
                best[price, tier] = map_coordinates(value[price, tier], at, order=1, mode="nearest")
            best[:, tier] += reward
        stay = best
        move = best.max(axis=1) - b
        value = np.maximum(stay, move[:, None])
    start = model.at_rest(np.array([air]))
    at = np.array([[(start.skin_c[0] - SKIN_C[0]) / 0.25], [(start.body_c[0] - BODY_C[0]) / 0.5]])
    # The first choice is no change of tier.
    return [
        float(max(map_coordinates(value[price, k], at, order=1)[0] for k in range(tiers))) for price in range(count)
    ]


def bound(optima: Sequence[float], prices: Sequence[Prices], *, throttled: float, changes_per_h: float) -> float:
    """The greatest mean quality of a policy that is throttled and changes at most so much.

    Args:
        optima: for each of the prices, the mean over runs of what `optimum` gave.
        prices: of the optima.
        throttled: share of the time, 0 to 1.
        changes_per_h: changes of tier an hour.
    """
    return min(
        found + one.throttled * throttled + one.change_per_h * changes_per_h
        for found, one in zip(optima, prices, strict=True)
    )
