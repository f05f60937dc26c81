"""Streams made from pictures: every picture stands still for a while, with noise and a hand that shakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ebbtide.errors import EbbtideError


@dataclass(frozen=True)
class FramePlan:
    """How pictures become frames.

    Args:
        frames: of each picture, >= 1.
        noise: standard deviation of what is added to every value of a pixel, 0 to 255; a new one for each frame.
        jitter_pixels: how far a frame is moved at most, each way, in whole pixels; what comes in repeats the edge.
        seed: of noise and movement.
    """

    frames: int = 20
    noise: float = 4.0
    jitter_pixels: int = 1
    seed: int = 0


def frames_of(images: npt.NDArray[np.uint8], plan: FramePlan) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The frames of a stream, and from which picture each is.

    Args:
        images: uint8 (n, H, W) or (n, H, W, C), in the order in which the camera would see them.
        plan: how.

    Returns:
        uint8 (n * frames, ...), and int64 (n * frames,): the index of the picture.

    Raises:
        EbbtideError: ``runtime.stream`` for other images or numbers out of range.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise _refused(
            "The images are no pictures.", "uint8 (n, H, W) or (n, H, W, C)", f"{images.dtype} {images.shape}"
        )
    reach = plan.jitter_pixels
    if plan.frames < 1 or not 0 <= plan.noise <= 255 or not 0 <= reach < min(images.shape[1:3]):
        raise _refused("The plan is out of range.", "frames >= 1, noise 0 to 255, jitter within the picture", str(plan))
    turn = np.random.default_rng(plan.seed)
    margins: Any = ((reach, reach), (reach, reach), *((0, 0),) * (images.ndim - 3))
    height, width = images.shape[1:3]
    made = np.empty((len(images), plan.frames, *images.shape[1:]), dtype=np.uint8)
    for index, image in enumerate(images):
        wide = np.pad(image, margins, mode="edge")
        for frame in range(plan.frames):
            top, left = turn.integers(0, 2 * reach + 1, 2)
            moved = wide[top : top + height, left : left + width]
            noisy = moved + turn.normal(0, plan.noise, moved.shape) if plan.noise else moved
            made[index, frame] = np.clip(np.rint(noisy), 0, 255)
    return made.reshape(-1, *images.shape[1:]), np.repeat(np.arange(len(images)), plan.frames)


def _refused(message: str, expected: str, found: str) -> EbbtideError:
    return EbbtideError("runtime.stream", message, expected=expected, found=found, place="images")
