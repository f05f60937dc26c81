"""What a model takes in: shape, colour and the affine map from stored values to the first layer's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from ebbtide.errors import EbbtideError

Kind = Literal["image", "signal"]
Color = Literal["RGB", "gray"]

# Without any knowledge of the model, pixels are mapped to -1..1. The statistics of the data are not used: they
# would change with the class set, and every bundle of one universal model should take the same input.
UNKNOWN_MEAN = 0.5
UNKNOWN_STD = 0.5


@dataclass(frozen=True)
class InputDefaults:
    """What a model's author says about its input; the recipe's own words win over it.

    Args:
        mean, std: per channel, for pixels in 0..1; None where nothing is known.
        size: (height, width) in pixels, or None.
        color: the channels the first layer takes, or None.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    color: Color | None = None


@dataclass(frozen=True)
class InputSpec:
    """The input of a model and how it is made from a picture or a signal; the manifest's ``input`` entry.

    Args:
        kind: "image" or "signal".
        shape: without the batch: (C, H, W) for images, (C, T) for signals.
        color: order and number of channels of an image, None for signals.
        scale, bias: per channel, float32 values; the model sees ``x * scale + bias``, where x is a pixel in 0..255 or
            a value of the signal.
        crop: "center" cuts an image to the aspect of `shape` first; None takes all of it.
        resize: "bilinear-v1", or None where images must arrive in the size of `shape`.
    """

    kind: Kind
    shape: tuple[int, ...]
    color: Color | None
    scale: tuple[float, ...]
    bias: tuple[float, ...]
    crop: Literal["center"] | None
    resize: Literal["bilinear-v1"] | None

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of an image input."""
        return self.shape[1], self.shape[2]

    def scale_array(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Scale as float32 (C, 1, ...) that broadcasts over one sample."""
        return np.asarray(self.scale, np.float32).reshape(-1, *[1] * (len(self.shape) - 1))

    def bias_array(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Bias as float32 (C, 1, ...) that broadcasts over one sample."""
        return np.asarray(self.bias, np.float32).reshape(-1, *[1] * (len(self.shape) - 1))

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` gives back an equal object."""
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "color": self.color,
            "scale": list(self.scale),
            "bias": list(self.bias),
            "crop": self.crop,
            "resize": self.resize,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> InputSpec:
        """The spec that `to_json` wrote."""
        return cls(
            kind=fields["kind"],
            shape=tuple(fields["shape"]),
            color=fields["color"],
            scale=tuple(fields["scale"]),
            bias=tuple(fields["bias"]),
            crop=fields["crop"],
            resize=fields["resize"],
        )


def image_spec(
    size: tuple[int, int],
    color: Color,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop: Literal["center"] | None = "center",
) -> InputSpec:
    """The spec of images of `size` (height, width), normalised by mean and std given for pixels in 0..1.

    ``scale = 1 / (255 * std)`` and ``bias = -mean / std`` are computed in double precision and rounded to float32
    once, so that all languages start from the same numbers.
    """
    channels = 3 if color == "RGB" else 1
    means, stds = _statistics(mean, std, channels, unknown=(UNKNOWN_MEAN, UNKNOWN_STD))
    return InputSpec(
        kind="image",
        shape=(channels, *size),
        color=color,
        scale=tuple(float(np.float32(1.0 / (255.0 * s))) for s in stds),
        bias=tuple(float(np.float32(0.0 - m / s)) for m, s in zip(means, stds, strict=True)),
        crop=crop,
        resize="bilinear-v1",
    )


def signal_spec(
    shape: tuple[int, int], *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> InputSpec:
    """The spec of signals of `shape` (C, T); mean and std are in the unit of the signal, default 0 and 1."""
    means, stds = _statistics(mean, std, shape[0], unknown=(0.0, 1.0))
    return InputSpec(
        kind="signal",
        shape=shape,
        color=None,
        scale=tuple(float(np.float32(1.0 / s)) for s in stds),
        bias=tuple(float(np.float32(0.0 - m / s)) for m, s in zip(means, stds, strict=True)),
        crop=None,
        resize=None,
    )


def resolve_input(
    wanted: Any, defaults: InputDefaults | None, *, kind: Kind, shape: tuple[int, ...] | None, color: Color | None
) -> tuple[InputSpec, list[str]]:
    """Put together the input spec: the recipe's words first, then the model's own, then the data's.

    Args:
        wanted: the recipe's ``data.input`` (attributes size, mean, std, color, each may be None) or None.
        defaults: what the model's author says, or None.
        kind: of the data.
        shape: (H, W) of images or (C, T) of signals; None where images differ in size.
        color: of the data as stored; None where it is mixed.

    Returns:
        The spec, and sentences for the report about what was chosen without being asked for.

    Raises:
        EbbtideError: data.input, data.size_unknown.
    """
    asked = InputDefaults() if wanted is None else _asked(wanted)
    known = defaults or InputDefaults()
    notes: list[str] = []
    if kind == "signal":
        if asked.size is not None or asked.color is not None:
            raise EbbtideError(
                "data.input", "Signals have no size or color.", place="data.input", hint="remove size and color"
            )
        if shape is None:
            raise EbbtideError(
                "data.size_unknown",
                "Signals differ in length.",
                hint="resample them to one length",
                place="data",
            )
        return signal_spec((shape[0], shape[1]), mean=asked.mean, std=asked.std), notes
    size = asked.size or known.size or (None if shape is None else (shape[0], shape[1]))
    if size is None:
        raise EbbtideError(
            "data.size_unknown",
            "Images differ in size, and neither the recipe nor the model says which size to use.",
            place="data.input.size",
            hint="set data.input.size, for example 224",
        )
    chosen: Color = asked.color or known.color or color or "RGB"
    if asked.mean is None and known.mean is None:
        notes.append(f"No mean and std are known for this model: {UNKNOWN_MEAN} and {UNKNOWN_STD} are used.")
    channels = 3 if chosen == "RGB" else 1
    if channels == 1 and known.mean is not None and len(known.mean) == 3:
        known = replace(known, mean=_average(known.mean), std=_average(known.std))
        if asked.mean is None:
            notes.append("The model's mean and std are for RGB; their averages are used for gray images.")
    crop: Literal["center"] | None = None if getattr(wanted, "crop", "center") is None else "center"
    return image_spec(size, chosen, mean=asked.mean or known.mean, std=asked.std or known.std, crop=crop), notes


def _asked(wanted: Any) -> InputDefaults:
    size = getattr(wanted, "size", None)
    mean, std = _numbers(getattr(wanted, "mean", None)), _numbers(getattr(wanted, "std", None))
    pair: tuple[int, int] | None = None
    if size is not None:
        pair = (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if min(pair) < 1:
            raise EbbtideError(
                "data.input",
                "The input size is not positive.",
                found=str(size),
                place="data.input.size",
                hint="give the size in pixels, for example 224",
            )
    if (mean is None) != (std is None):
        raise EbbtideError(
            "data.input",
            "Only one of mean and std is given.",
            place="data.input",
            hint="give both, for pixels in 0..1, or neither",
        )
    color = getattr(wanted, "color", None)
    if color not in (None, "RGB", "gray"):
        raise EbbtideError(
            "data.input",
            f"Unknown color {color!r}.",
            expected="RGB or gray",
            place="data.input.color",
            hint="write RGB or gray",
        )
    return InputDefaults(mean=mean, std=std, size=pair, color=cast("Color | None", color))


def _numbers(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    return (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)


def _average(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return None if values is None else (sum(values) / len(values),)


def _statistics(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int, *, unknown: tuple[float, float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    found = []
    for name, values, default in (("mean", mean, unknown[0]), ("std", std, unknown[1])):
        numbers = (default,) if values is None else tuple(values)
        if len(numbers) == 1:
            numbers *= channels
        if len(numbers) != channels or not all(np.isfinite(numbers)) or (name == "std" and min(numbers) <= 0):
            raise EbbtideError(
                "data.input",
                f"The {name} does not fit an input of {channels} channels.",
                expected=f"1 or {channels} finite numbers" + (" above 0" if name == "std" else ""),
                found=str(list(numbers)),
                place=f"data.input.{name}",
                hint="give one number, or one per channel",
            )
        found.append(numbers)
    return found[0], found[1]
