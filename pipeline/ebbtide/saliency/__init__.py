"""How much each unit of a trained model matters: gradients gathered in one pass, and the order they give."""

from ebbtide.saliency.collection import collect
from ebbtide.saliency.scores import Kind, unit_scores
from ebbtide.saliency.statistics import Norm, Statistics

__all__ = ["Kind", "Norm", "Statistics", "collect", "unit_scores"]
