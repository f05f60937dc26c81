"""From a decoded picture to a model's input, in integers up to the last multiply-add, so that every language agrees.

The steps, for an image uint8 (H, W, C) and an input of (h, w):

1. **Crop** to the aspect, in the middle. If ``W * h > H * w`` the width becomes ``(2 * H * w + h) // (2 * h)``, else
   the height becomes ``(2 * W * h + w) // (2 * w)``, at least 1 and at most what there is; the part cut off before it
   is ``(full - kept) // 2``.
2. **Resize**, ``bilinear-v1``, along the height and then along the width. Output i of n over m inputs is the weighted
   sum of the inputs j with the integer weights of `resize_weights`, which sum to 2^14; after *each* of the two passes
   the sum is rounded half up to uint8: ``(sum + 2^13) >> 14``.
3. **Colour**, after resizing. RGB to gray: ``(19595 R + 38470 G + 7471 B + 2^15) >> 16`` (BT.601). Gray to RGB: the
   value three times.
4. **Scale**: ``float32(pixel) * scale + bias`` per channel, channels first.

An image that already has the size of the input passes steps 1 and 2 unchanged, bit for bit. The EXIF orientation is the
caller's to apply, before step 1.

The height goes first because its pass adds whole rows, which is a plain matrix product here and plain SIMD on a phone,
and leaves little for the second pass. Products are taken in float32: all partial sums are integers of at most
``255 * 2^14 < 2^24``, so they are exact whatever the order of additions is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.input import Color, InputSpec
from ebbtide.errors import EbbtideError

WEIGHT_BITS = 14
_HALF = 1 << (WEIGHT_BITS - 1)
# Outputs that share one dense block of weights: small enough that few of its entries are zero, large enough for BLAS.
_BLOCK = 16
# Chosen by timing: float32 copies of this many bytes stay in the cache.
_STRIP = 4096


def preprocess(image: NDArray[Any], spec: InputSpec) -> NDArray[np.float32]:
    """Make a model's input from a decoded image or a signal.

    Args:
        image: uint8 (H, W) or (H, W, C) with C 1 or 3, oriented as it should be seen; or, for signals, numbers (C, T).
        spec: what the model takes.

    Returns:
        float32 of `spec.shape`, contiguous.

    Raises:
        EbbtideError: data.array (type or axes), data.channels, data.input (another size and `spec.resize` is None),
            data.not_finite (signals).
    """
    if spec.kind == "signal":
        return _signal(image, spec)
    pixels = fit_pixels(_stack_of_one(image), spec)[0]
    return normalize(np.ascontiguousarray(pixels.transpose(2, 0, 1)), spec)


def normalize(values: NDArray[Any], spec: InputSpec) -> NDArray[np.float32]:
    """``x * scale + bias`` in float32 for one sample or a batch, channels first: (..., C, H, W) or (..., C, T)."""
    result = values.astype(np.float32)
    result *= spec.scale_array()
    result += spec.bias_array()
    return result


def fit_pixels(images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Crop, resize and colour of a stack (n, H, W, C) to uint8 (n, h, w, c) of `spec`: all steps but the last."""
    height, width = spec.size
    if images.shape[1:3] != (height, width):
        if spec.resize is None:
            raise EbbtideError(
                "data.input",
                "The image does not have the size of the input, and this input is not resized.",
                expected=f"{height} x {width}",
                found=f"{images.shape[1]} x {images.shape[2]}",
                hint="resize the image before, or set data.input.size",
            )
        if spec.crop == "center":
            top, left, kept_height, kept_width = center_crop(images.shape[1], images.shape[2], spec.size)
            images = images[:, top : top + kept_height, left : left + kept_width]
        images = resize(images, spec.size)
    return recolor(images, spec.color or "RGB")


def center_crop(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest middle part with the aspect of `size` (height, width), in integers."""
    target_height, target_width = size
    if width * target_height > height * target_width:
        kept = max(1, (2 * height * target_width + target_height) // (2 * target_height))
        kept = min(kept, width)
        return 0, (width - kept) // 2, height, kept
    kept = max(1, (2 * width * target_height + target_width) // (2 * target_width))
    kept = min(kept, height)
    return (height - kept) // 2, 0, kept, width


@lru_cache(maxsize=256)
def resize_weights(inputs: int, outputs: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Weights of ``bilinear-v1``: for each output the first input it takes and the integer weights, which sum to 2^14.

    With m inputs, n outputs and ``r = max(m, n)``, input j has for output i the raw weight
    ``u_j = max(0, 2 r - |(2 j + 1) n - (2 i + 1) m|)``: a triangle around the centre ``(i + 1/2) m / n``, in units of
    1 / (2 n), whose half width is one output step when shrinking and one input step when enlarging. With
    ``P_j = u_0 + ... + u_(j-1)`` and U the sum of all, the weight is ``R(P_(j+1)) - R(P_j)``, where
    ``R(p) = (p * 2^15 + U) // (2 U)`` is ``p / U * 2^14`` rounded half up. Rounding the running sum spreads the
    remainder and makes the sum exactly 2^14 with no sorting. Inputs beyond either end do not exist: their share goes
    to the others. Leading and trailing zeros are left out.

    Example: 2 inputs to 3 outputs gives (16384, 0), (8192, 8192), (0, 16384).
    """
    reach = max(inputs, outputs)
    table = []
    for i in range(outputs):
        centre = (2 * i + 1) * inputs
        # (2 j + 1) n > centre - 2 r and < centre + 2 r bound the inputs with a weight above 0.
        first = max(0, (centre - 2 * reach) // (2 * outputs))
        last = min(inputs - 1, (centre + 2 * reach) // (2 * outputs))
        raw = [max(0, 2 * reach - abs((2 * j + 1) * outputs - centre)) for j in range(first, last + 1)]
        total = sum(raw)
        weights, running, before = [], 0, 0
        for value in raw:
            running += value
            after = ((running << (WEIGHT_BITS + 1)) + total) // (2 * total)
            weights.append(after - before)
            before = after
        while weights[0] == 0:
            weights.pop(0)
            first += 1
        while weights[-1] == 0:
            weights.pop()
        table.append((first, tuple(weights)))
    return tuple(table)


def resize(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``bilinear-v1`` of a stack (n, H, W, C) to `size` (height, width), height first, uint8 after each pass."""
    count, height, width, channels = images.shape
    rows = images.reshape(count, height, width * channels)
    if height != size[0]:
        rows = _weighted_rows(rows, size[0])
    if width != size[1]:
        upright = rows.reshape(count, size[0], width, channels).transpose(0, 2, 1, 3)
        columns = _weighted_rows(upright.reshape(count, width, size[0] * channels), size[1])
        upright = columns.reshape(count, size[1], size[0], channels).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(upright)
    return np.ascontiguousarray(rows).reshape(count, *size, channels)


def recolor(images: NDArray[np.uint8], color: Color) -> NDArray[np.uint8]:
    """A stack (n, H, W, 1 or 3) as gray (n, H, W, 1) or RGB (n, H, W, 3)."""
    channels = 1 if color == "gray" else 3
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    wide = images.astype(np.uint32)
    gray = (19595 * wide[..., 0] + 38470 * wide[..., 1] + 7471 * wide[..., 2] + (1 << 15)) >> 16
    return gray.astype(np.uint8)[..., None]


@lru_cache(maxsize=64)
def _blocks(inputs: int, outputs: int) -> tuple[tuple[int, int, int, NDArray[np.float32]], ...]:
    """The weights as dense blocks: (first output, first input, last input + 1, float32 (outputs, inputs))."""
    table = resize_weights(inputs, outputs)
    blocks = []
    for start in range(0, outputs, _BLOCK):
        rows = table[start : start + _BLOCK]
        first = min(row[0] for row in rows)
        stop = max(row[0] + len(row[1]) for row in rows)
        dense = np.zeros((len(rows), stop - first), np.float32)
        for r, (offset, weights) in enumerate(rows):
            dense[r, offset - first : offset - first + len(weights)] = weights
        dense.setflags(write=False)
        blocks.append((start, first, stop, dense))
    return tuple(blocks)


def _weighted_rows(rows: NDArray[np.uint8], outputs: int) -> NDArray[np.uint8]:
    """Weighted sums over the middle axis of (n, inputs, values), rounded half up to uint8 (n, outputs, values)."""
    count, inputs, values = rows.shape
    result = np.empty((count, outputs, values), np.uint8)
    for start, first, stop, weights in _blocks(inputs, outputs):
        for left in range(0, values, _STRIP):
            part = rows[:, first:stop, left : left + _STRIP].astype(np.float32)
            sums = np.matmul(weights, part).astype(np.int32)
            sums += _HALF
            sums >>= WEIGHT_BITS
            result[:, start : start + weights.shape[0], left : left + _STRIP] = sums
    return result


def _stack_of_one(image: NDArray[Any]) -> NDArray[np.uint8]:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise EbbtideError(
            "data.array",
            "An image must be a uint8 array (height, width) or (height, width, channels).",
            found=f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}",
            hint="convert it: np.asarray(image, np.uint8)",
        )
    stack = image[None, :, :, None] if image.ndim == 2 else image[None]
    check_channels(stack.shape[3])
    return stack


def check_channels(channels: int, *, place: str | None = None) -> None:
    """Refuse images that are neither gray nor RGB."""
    if channels not in (1, 3):
        raise EbbtideError(
            "data.channels",
            f"Images have {channels} channels.",
            expected="1 (gray) or 3 (RGB), as the last axis",
            place=place,
            hint="order the axes (samples, height, width, channels) and drop alpha or further bands",
        )


def _signal(values: NDArray[Any], spec: InputSpec) -> NDArray[np.float32]:
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "fiu" or numbers.shape != spec.shape:
        raise EbbtideError(
            "data.array",
            "The signal does not have the shape of the input.",
            expected=f"numbers of shape {spec.shape}",
            found=f"{numbers.dtype} {numbers.shape}",
            hint="give a signal as the bundle was built for",
        )
    if not np.isfinite(numbers).all():
        raise EbbtideError(
            "data.not_finite",
            "The signal holds NaN or infinite values.",
            hint="leave the sample out or fill the gap",
        )
    return normalize(numbers, spec)
