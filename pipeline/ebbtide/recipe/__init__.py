"""What the user asked for, read and validated; nothing heavy is imported here."""

from __future__ import annotations

from ebbtide.recipe.models import (
    AugmentationSection,
    ClassDraw,
    ExitsSection,
    Recipe,
    SignSection,
    TiersSection,
    TrainingSection,
)
from ebbtide.recipe.sources import DataSection, IdxSection, InputSection, ModelSection, SplitSection, TorchvisionData

__all__ = [
    "AugmentationSection",
    "ClassDraw",
    "DataSection",
    "ExitsSection",
    "IdxSection",
    "InputSection",
    "ModelSection",
    "Recipe",
    "SignSection",
    "SplitSection",
    "TiersSection",
    "TorchvisionData",
    "TrainingSection",
]
