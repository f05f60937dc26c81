"""Exits: small classifiers after a stage, trained on a frozen backbone's cached features, with honest confidences."""

from ebbtide.exits.features import FeatureCache, cache_features
from ebbtide.exits.protocol import ExitType, exit_type, exit_types
from ebbtide.exits.records import Records, confidences, record
from ebbtide.exits.temperature import fit_temperature
from ebbtide.exits.training import ExitSettings, load_exit, save_exit, train_exit

__all__ = [
    "ExitSettings",
    "ExitType",
    "FeatureCache",
    "Records",
    "cache_features",
    "confidences",
    "exit_type",
    "exit_types",
    "fit_temperature",
    "load_exit",
    "record",
    "save_exit",
    "train_exit",
]
