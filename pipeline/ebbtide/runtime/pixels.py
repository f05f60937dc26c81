"""From whatever a caller holds to the array that preprocessing takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ebbtide.data import InputSpec
from ebbtide.errors import EbbtideError


def pixels_of(image: Any, spec: InputSpec) -> npt.NDArray[Any]:
    """The array of an image or a signal.

    Arrays pass as they are; preprocessing checks them. A PIL image is turned as its EXIF orientation says and becomes
    uint8 (H, W) if it is grey, else (H, W, 3); transparency is dropped, as for the files that data are read from.

    Raises:
        EbbtideError: ``runtime.input`` for anything else, and for a PIL image of more than 8 bits per channel.
    """
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, Image.Image) or spec.kind == "signal":
        raise EbbtideError(
            "runtime.input",
            f"An input cannot be a {type(image).__name__}.",
            expected=f"a float array {list(spec.shape)}" if spec.kind == "signal" else "a uint8 array or a PIL image",
            found=type(image).__name__,
            place="image",
        )
    if image.mode.startswith(("I", "F")):
        raise EbbtideError(
            "runtime.input",
            "The picture has more than 8 bits per channel.",
            expected="8 bits per channel",
            found=f"mode {image.mode}",
            hint="convert it to 8 bits; how to map the range is your choice",
            place="image",
        )
    turned = ImageOps.exif_transpose(image)
    return np.asarray(turned.convert("L" if turned.mode in {"1", "L", "LA", "La"} else "RGB"))
