"""How much each unit of a trained model matters: gradients gathered in one pass, and the order they give."""

from ebbtide.saliency.collection import collect
from ebbtide.saliency.moving import Gathering
from ebbtide.saliency.scores import Kind, Scale, unit_scores, weight_scores
from ebbtide.saliency.statistics import Norm, Statistics

__all__ = ["Gathering", "Kind", "Norm", "Scale", "Statistics", "collect", "unit_scores", "weight_scores"]
