"""Heat in a phone: a hot patch and the rest of the body, in air of one temperature, and the chip above the patch.

The patch (chip, board and the skin above them) and the body (battery, display, frame) are one node each::

    C_s dT_s/dt = P_soc           - (T_s - T_b) / R_sb - g phi       (T_s - T_air)
    C_b dT_b/dt = P_rest + P_batt + (T_s - T_b) / R_sb - g (1 - phi) (T_b - T_air)
    T_die       = T_s + R_js P_soc, behind a first-order lag

with ``g = h A``, ``C_s = patch_share c m`` and ``C_b`` the rest. h, c and the areas follow the phone models of
Therminator 2 (M. J. Dousti, USC), R_sb and phi were fitted to its steady state of a Galaxy S4 at 4.0 W, and R_js is
its difference of 13.1 K between chip and board at 2.25 W. Nothing here was measured on a phone by us.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TRANSFER_W_M2K = 11.5
"""h: heat given to still air by convection and radiation; 7 to 9 in a case on a table, 12 to 15 in a hand."""

SPECIFIC_HEAT_J_KGK = 968.0
"""c of a whole phone: 128.8 J/K of a Nexus 5 of 133 g in Therminator 2."""

PATCH_SHARE = 0.3
"""Share of the heat capacity, and of the surface (phi), that belongs to the hot patch."""

PATCH_TO_BODY_K_W = 3.0
DIE_TO_PATCH_K_W = 5.8
DIE_LAG_S = 10.0
REST_SKIN_C = 3.0
REST_BODY_C = 2.0
"""How much warmer than the air a phone is that does little: about 0.5 W."""


@dataclass(frozen=True, slots=True)
class Heat:
    """Temperatures in degrees Celsius, one value a phone."""

    skin_c: Floats
    body_c: Floats
    die_c: Floats


@dataclass(frozen=True, slots=True)
class HeatModel:
    """The constants of one phone.

    Attributes:
        surface_g_w_k: g, heat given to the air for each kelvin above it, W/K.
        patch_j_k, body_j_k: heat capacities.
    """

    surface_g_w_k: float
    patch_j_k: float
    body_j_k: float
    patch_to_body_k_w: float = PATCH_TO_BODY_K_W
    patch_surface: float = PATCH_SHARE
    die_to_patch_k_w: float = DIE_TO_PATCH_K_W
    die_lag_s: float = DIE_LAG_S

    @classmethod
    def of_body(cls, surface_cm2: float, mass_g: float) -> HeatModel:
        """The constants that follow from a phone's surface and mass."""
        capacity = SPECIFIC_HEAT_J_KGK * mass_g / 1000
        return cls(TRANSFER_W_M2K * surface_cm2 / 1e4, PATCH_SHARE * capacity, (1 - PATCH_SHARE) * capacity)

    @property
    def resistance_k_w(self) -> float:
        """R: kelvins above the air for each watt, if the whole phone had one temperature."""
        return 1 / self.surface_g_w_k

    @property
    def capacity_j_k(self) -> float:
        """C of the whole phone."""
        return self.patch_j_k + self.body_j_k

    @property
    def time_constants_s(self) -> tuple[float, float]:
        """The fast and the slow time constant: the two eigenvalues of the equations."""
        a, b, c, d = self._rates()
        mean, product = (a + d) / 2, a * d - b * c
        root = math.sqrt(mean * mean - product)
        return 1 / (mean + root), 1 / (mean - root)

    def _rates(self) -> tuple[float, float, float, float]:
        """The matrix A of dT/dt = -A T + ..., row by row, 1/s."""
        g, between = self.surface_g_w_k, 1 / self.patch_to_body_k_w
        patch, body = g * self.patch_surface, g * (1 - self.patch_surface)
        return (
            (between + patch) / self.patch_j_k,
            -between / self.patch_j_k,
            -between / self.body_j_k,
            (between + body) / self.body_j_k,
        )

    def at_rest(self, air_c: Floats) -> Heat:
        """A phone that lay about in light use: a little warmer than the air."""
        return Heat(air_c + REST_SKIN_C, air_c + REST_BODY_C, air_c + REST_SKIN_C)

    def steady(self, soc_w: float, rest_w: float, air_c: float) -> tuple[float, float, float]:
        """Skin, body and die after a long time at constant power, degrees Celsius."""
        a, b, c, d = self._rates()
        p, q = soc_w / self.patch_j_k, rest_w / self.body_j_k
        determinant = a * d - b * c
        skin, body = air_c + (d * p - b * q) / determinant, air_c + (a * q - c * p) / determinant
        return skin, body, skin + self.die_to_patch_k_w * soc_w

    def step(self, heat: Heat, soc_w: Floats, rest_w: Floats, air_c: Floats, *, step_s: float = 1.0) -> Heat:
        """The temperatures one step later (explicit Euler; the fastest constant is the die's lag).

        Args:
            heat: the temperatures now.
            soc_w: power of the chip, W.
            rest_w: power of display, radio and the like, and the battery's own loss, W.
            air_c: the air, degrees Celsius.
            step_s: below the shortest time constant.
        """
        between = (heat.skin_c - heat.body_c) / self.patch_to_body_k_w
        patch, body = self.surface_g_w_k * self.patch_surface, self.surface_g_w_k * (1 - self.patch_surface)
        skin = heat.skin_c + step_s / self.patch_j_k * (soc_w - between - patch * (heat.skin_c - air_c))
        rest = heat.body_c + step_s / self.body_j_k * (rest_w + between - body * (heat.body_c - air_c))
        above = heat.skin_c + self.die_to_patch_k_w * soc_w
        return Heat(skin, rest, heat.die_c + step_s / self.die_lag_s * (above - heat.die_c))
