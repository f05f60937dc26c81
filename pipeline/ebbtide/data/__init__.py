"""Labelled samples: sources, class sets, preprocessing and the three disjoint splits, one of them sealed."""

from ebbtide.data.array_file import array_file
from ebbtide.data.augmentation import Augmentation
from ebbtide.data.classes import choose_classes
from ebbtide.data.dataset import Dataset, load_prepared
from ebbtide.data.input import InputDefaults, InputSpec, image_spec, signal_spec
from ebbtide.data.prepare import prepare
from ebbtide.data.preprocess import preprocess
from ebbtide.data.seal import FrozenChoices, SealedSplit, read_opening_log
from ebbtide.data.source import Samples, Source
from ebbtide.data.sources import fingerprint, known_sources, open_source
from ebbtide.data.sources.folder import read_image
from ebbtide.data.split import Split

__all__ = [
    "Augmentation",
    "Dataset",
    "FrozenChoices",
    "InputDefaults",
    "InputSpec",
    "Samples",
    "SealedSplit",
    "Source",
    "Split",
    "array_file",
    "choose_classes",
    "fingerprint",
    "image_spec",
    "known_sources",
    "load_prepared",
    "open_source",
    "prepare",
    "preprocess",
    "read_image",
    "read_opening_log",
    "signal_spec",
]
