"""From records to configurations: exact scores, exact thresholds, the Pareto table and its tiers."""

from ebbtide.search.costs import Costs
from ebbtide.search.score import OFF, Score, leaving, score
from ebbtide.search.sweep import Candidate, search_thresholds
from ebbtide.search.thresholds import admissible_thresholds
from ebbtide.search.tiers import choose_tiers, pareto, thin

__all__ = [
    "OFF",
    "Candidate",
    "Costs",
    "Score",
    "admissible_thresholds",
    "choose_tiers",
    "leaving",
    "pareto",
    "score",
    "search_thresholds",
    "thin",
]
