"""The universal model as a graph: loading, cutting, costing, training."""

from ebbtide.model.capture import capture
from ebbtide.model.cost import Cost, NodeCost, cost
from ebbtide.model.coupling import Coupling, Group, Member, Whole, Widths, coupling_groups, narrow, permute, slice_state
from ebbtide.model.cuts import CutPoint, choose_cuts, cut_points
from ebbtide.model.defaults import input_defaults
from ebbtide.model.graph import Graph, set_training
from ebbtide.model.head import restrict_head
from ebbtide.model.load import load_model
from ebbtide.model.loss import Distillation, class_loss
from ebbtide.model.metric import Metric, chance_warning, evaluate, metric_value, predict
from ebbtide.model.stages import StagedGraph, split
from ebbtide.model.training import Epoch, History, train, training_device

__all__ = [
    "Cost",
    "Coupling",
    "CutPoint",
    "Distillation",
    "Epoch",
    "Graph",
    "Group",
    "History",
    "Member",
    "Metric",
    "NodeCost",
    "StagedGraph",
    "Whole",
    "Widths",
    "capture",
    "chance_warning",
    "choose_cuts",
    "class_loss",
    "cost",
    "coupling_groups",
    "cut_points",
    "evaluate",
    "input_defaults",
    "load_model",
    "metric_value",
    "narrow",
    "permute",
    "predict",
    "restrict_head",
    "set_training",
    "slice_state",
    "split",
    "train",
    "training_device",
]
