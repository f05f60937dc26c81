"""The universal model as a graph: loading, cutting, costing, training."""

from ebbtide.model.capture import capture
from ebbtide.model.cost import Cost, NodeCost, cost
from ebbtide.model.cuts import CutPoint, choose_cuts, cut_points
from ebbtide.model.defaults import input_defaults
from ebbtide.model.graph import Graph, set_training
from ebbtide.model.head import restrict_head
from ebbtide.model.load import load_model
from ebbtide.model.metric import Metric, chance_warning, evaluate, metric_value, predict
from ebbtide.model.stages import StagedGraph, split
from ebbtide.model.training import Epoch, History, train, training_device

__all__ = [
    "Cost",
    "CutPoint",
    "Epoch",
    "Graph",
    "History",
    "Metric",
    "NodeCost",
    "StagedGraph",
    "capture",
    "chance_warning",
    "choose_cuts",
    "cost",
    "cut_points",
    "evaluate",
    "input_defaults",
    "load_model",
    "metric_value",
    "predict",
    "restrict_head",
    "set_training",
    "split",
    "train",
    "training_device",
]
