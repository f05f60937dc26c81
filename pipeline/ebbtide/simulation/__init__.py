"""A phone in arithmetic: heat, battery, system, and policies side by side on it; nothing here was measured on one."""

from ebbtide.simulation.assumptions import SHIPPED, Assumptions, load_assumptions
from ebbtide.simulation.comparison import (
    LABEL,
    Comparison,
    PolicyRow,
    compare,
    policy_kinds,
    policy_rows,
)
from ebbtide.simulation.headroom import TemperatureWatcher, headroom_of
from ebbtide.simulation.heat import Heat, HeatModel
from ebbtide.simulation.phones import Phone, System, load_phone, load_system, phone_names
from ebbtide.simulation.policies import Fixed, PolicyKind, SimulatedPolicy, View
from ebbtide.simulation.product import product
from ebbtide.simulation.run import Outcome, Work, simulate
from ebbtide.simulation.scenario import Load, Scenario, draw_scenario
from ebbtide.simulation.source import SimulatedSource
from ebbtide.simulation.tiers import TierFacts, tier_facts, work_of

__all__ = [
    "LABEL",
    "SHIPPED",
    "Assumptions",
    "Comparison",
    "Fixed",
    "Heat",
    "HeatModel",
    "Load",
    "Outcome",
    "Phone",
    "PolicyKind",
    "PolicyRow",
    "Scenario",
    "SimulatedPolicy",
    "SimulatedSource",
    "System",
    "TemperatureWatcher",
    "TierFacts",
    "View",
    "Work",
    "compare",
    "draw_scenario",
    "headroom_of",
    "load_assumptions",
    "load_phone",
    "load_system",
    "phone_names",
    "policy_kinds",
    "policy_rows",
    "product",
    "simulate",
    "tier_facts",
    "work_of",
]
