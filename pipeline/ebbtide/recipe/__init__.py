"""What the user asked for, read and validated; nothing heavy is imported here."""

from __future__ import annotations

from ebbtide.recipe.code import CodeEntry, code_entry
from ebbtide.recipe.exits import ConstraintSection, ExitsSection, JointSection, SearchSection
from ebbtide.recipe.loading import load_recipe, named_after, named_paths
from ebbtide.recipe.models import (
    AugmentationSection,
    ClassDraw,
    Recipe,
    SignSection,
    TiersSection,
    TrainingSection,
)
from ebbtide.recipe.outside import OutsideSection
from ebbtide.recipe.policy import PolicySection
from ebbtide.recipe.sources import DataSection, IdxSection, InputSection, ModelSection, SplitSection, TorchvisionData
from ebbtide.recipe.sparsity import SparsitySection
from ebbtide.recipe.stable import canonical_json, step_inputs
from ebbtide.recipe.template import init_text
from ebbtide.recipe.widths import TuningSection, WidthsSection

__all__ = [
    "AugmentationSection",
    "ClassDraw",
    "CodeEntry",
    "ConstraintSection",
    "DataSection",
    "ExitsSection",
    "IdxSection",
    "InputSection",
    "JointSection",
    "ModelSection",
    "OutsideSection",
    "PolicySection",
    "Recipe",
    "SearchSection",
    "SignSection",
    "SparsitySection",
    "SplitSection",
    "TiersSection",
    "TorchvisionData",
    "TrainingSection",
    "TuningSection",
    "WidthsSection",
    "canonical_json",
    "code_entry",
    "init_text",
    "load_recipe",
    "named_after",
    "named_paths",
    "step_inputs",
]
