"""Nested widths: one set of weights, several sizes, each a prefix of the next."""

from ebbtide.nesting.knapsack import Factor, Found, Infeasible, Limit, Problem, Solution
from ebbtide.nesting.levels import Ladder, Level, choose_levels, name_of_level, order_units
from ebbtide.nesting.nested import Nested, extract
from ebbtide.nesting.problem import LayerTimes, Rules, dense_input, problem_of
from ebbtide.nesting.search import Order, least_cost, reason_against, search
from ebbtide.nesting.tuning import TuningOptions, level_warnings, loss_weights, tune
from ebbtide.nesting.uniform import uniform

__all__ = [
    "Factor",
    "Found",
    "Infeasible",
    "Ladder",
    "LayerTimes",
    "Level",
    "Limit",
    "Nested",
    "Order",
    "Problem",
    "Rules",
    "Solution",
    "TuningOptions",
    "choose_levels",
    "dense_input",
    "extract",
    "least_cost",
    "level_warnings",
    "loss_weights",
    "name_of_level",
    "order_units",
    "problem_of",
    "reason_against",
    "search",
    "tune",
    "uniform",
]
