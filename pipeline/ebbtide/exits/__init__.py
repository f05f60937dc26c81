"""Exits: small classifiers after a stage, trained on a frozen backbone's cached features, with honest confidences."""

from ebbtide.exits.candidates import Possible, exit_logits, fit_exits, pools_of, possible_exits
from ebbtide.exits.features import FeatureCache, cache_features
from ebbtide.exits.key import ExitKey
from ebbtide.exits.place import Classifier, Place, exit_places
from ebbtide.exits.protocol import Exit, ExitType, build_exit, exit_macs, exit_type, exit_types
from ebbtide.exits.records import Records, confidences, record
from ebbtide.exits.temperature import fit_temperature
from ebbtide.exits.training import ExitHistory, ExitSettings, load_exit, save_exit, train_exit, train_exits

__all__ = [
    "Classifier",
    "Exit",
    "ExitHistory",
    "ExitKey",
    "ExitSettings",
    "ExitType",
    "FeatureCache",
    "Place",
    "Possible",
    "Records",
    "build_exit",
    "cache_features",
    "confidences",
    "exit_logits",
    "exit_macs",
    "exit_places",
    "exit_type",
    "exit_types",
    "fit_exits",
    "fit_temperature",
    "load_exit",
    "pools_of",
    "possible_exits",
    "record",
    "save_exit",
    "train_exit",
    "train_exits",
]
