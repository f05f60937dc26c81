"""What the author of a timm or torchvision model says about its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.data import InputDefaults

if TYPE_CHECKING:
    from ebbtide.recipe import ModelSection


def input_defaults(section: ModelSection) -> InputDefaults | None:
    """Mean, standard deviation, size and colour that a named model was trained with; None for any other model.

    Nothing is downloaded. ``img_size`` and ``in_chans`` among the model's arguments win over the author's.
    A name that the library does not know gives None here; `load_model` refuses it.
    """
    if section.timm is not None:
        found = _timm(section.timm)
    elif section.torchvision is not None:
        found = _torchvision(section.torchvision)
    else:
        return None
    size = section.arguments.get("img_size")
    if found is not None and size is not None:
        pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, list) else found.size
        found = InputDefaults(mean=found.mean, std=found.std, size=pair, color=found.color)  # type: ignore[arg-type]
    return found


def _timm(name: str) -> InputDefaults | None:
    try:
        from timm.models import get_pretrained_cfg, is_model
    except ImportError:
        return None
    config = get_pretrained_cfg(name) if is_model(name.partition(".")[0]) else None
    if config is None:
        return None
    channels, height, width = config.input_size
    return InputDefaults(
        mean=tuple(float(v) for v in config.mean),
        std=tuple(float(v) for v in config.std),
        size=(int(height), int(width)),
        color={1: "gray", 3: "RGB"}.get(channels),  # type: ignore[arg-type]
    )


def _torchvision(name: str) -> InputDefaults | None:
    try:
        from torchvision.models import get_model_weights

        transform = get_model_weights(name).DEFAULT.transforms()
    except (ImportError, ValueError, AttributeError):
        return None
    crop = transform.crop_size
    height, width = (crop[0], crop[-1]) if isinstance(crop, (list, tuple)) else (crop, crop)
    return InputDefaults(
        mean=tuple(float(v) for v in transform.mean),
        std=tuple(float(v) for v in transform.std),
        size=(int(height), int(width)),
        color="RGB",
    )
