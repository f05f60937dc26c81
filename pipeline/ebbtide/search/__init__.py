"""From records to configurations: exact scores, exact searches, the Pareto table, its limits and its tiers."""

from ebbtide.search.candidate import Candidate, scored_candidate
from ebbtide.search.caution import CautiousProblem, expected_right, lower_accuracy
from ebbtide.search.controls import brent_single_pass, brent_step, same_threshold
from ebbtide.search.costs import Costs
from ebbtide.search.limits import Limits, Timed, Within, within
from ebbtide.search.mapping import Enumeration, Placement, Segment, enumerate_placements, mapped_costs
from ebbtide.search.mapping_blocks import Block, BlockGraph, block_graph, exit_block
from ebbtide.search.mapping_drawing import mapping_drawing, rejects_drawing
from ebbtide.search.mapping_problem import MappingProblem, mapping_problem
from ebbtide.search.mapping_score import Goal, MappedConfiguration
from ebbtide.search.mapping_search import MappingSearch, search_mapping
from ebbtide.search.outside import Rates, Scales, Strangeness, choose_outside, is_outside, rates
from ebbtide.search.problem import Problem, metric_weights
from ebbtide.search.score import OFF, Score, leaving, score
from ebbtide.search.settling import Settled, settle_types
from ebbtide.search.sweep import descend, iterative, refine, single_pass, sweep_down, sweep_up
from ebbtide.search.table import TRADE_OFFS, SearchSettings, search_thresholds
from ebbtide.search.thresholds import admissible_thresholds, every_threshold, fewer_thresholds
from ebbtide.search.tiers import choose_tiers, pareto, thin

__all__ = [
    "OFF",
    "TRADE_OFFS",
    "Block",
    "BlockGraph",
    "Candidate",
    "CautiousProblem",
    "Costs",
    "Enumeration",
    "Goal",
    "Limits",
    "MappedConfiguration",
    "MappingProblem",
    "MappingSearch",
    "Placement",
    "Problem",
    "Rates",
    "Scales",
    "Score",
    "SearchSettings",
    "Segment",
    "Settled",
    "Strangeness",
    "Timed",
    "Within",
    "admissible_thresholds",
    "block_graph",
    "brent_single_pass",
    "brent_step",
    "choose_outside",
    "choose_tiers",
    "descend",
    "enumerate_placements",
    "every_threshold",
    "exit_block",
    "expected_right",
    "fewer_thresholds",
    "is_outside",
    "iterative",
    "leaving",
    "lower_accuracy",
    "mapped_costs",
    "mapping_drawing",
    "mapping_problem",
    "metric_weights",
    "pareto",
    "rates",
    "refine",
    "rejects_drawing",
    "same_threshold",
    "score",
    "scored_candidate",
    "search_mapping",
    "search_thresholds",
    "settle_types",
    "single_pass",
    "sweep_down",
    "sweep_up",
    "thin",
    "within",
]
