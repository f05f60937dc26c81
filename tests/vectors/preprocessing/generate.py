"""Makes weights.json and images.json from the Python reference, and their schema.json.

README.md beside this file says what the fields mean.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))

from preprocessing_schema import schema

from ebbtide.data.input import InputSpec, image_spec
from ebbtide.data.preprocess import center_crop, fit_pixels, preprocess, resize_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# (inputs, outputs): same, enlarged and shrunk, odd and even, one pixel, whole and broken ratios, a camera's rows.
AXES = ((1, 1), (1, 3), (2, 3), (3, 2), (3, 1), (5, 5), (7, 4), (4, 7), (10, 3), (28, 32), (32, 8), (99, 10), (3000, 5))
# More numbers than this are told by their SHA-256 alone.
LONGEST_LIST = 600


def noise(height: int, width: int, channels: int, seed: int) -> NDArray[np.uint8]:
    """Pixels of the generator that README.md describes."""
    state, values = seed, bytearray()
    for _ in range(height * width * channels):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values.append(state >> 24)
    return np.frombuffer(bytes(values), np.uint8).reshape(height, width, channels)


def weights() -> dict[str, Any]:
    return {
        "format": 1,
        "cases": [
            {"inputs": m, "outputs": n, "rows": [[first, list(row)] for first, row in resize_weights(m, n)]}
            for m, n in AXES
        ],
    }


def images() -> dict[str, Any]:
    rgb, gray = image_spec((4, 6), "RGB", mean=MEAN, std=STD), image_spec((5, 5), "gray")
    stretched = image_spec((4, 6), "RGB", mean=MEAN, std=STD, crop=None)
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4
    extremes = np.array([0, 255, 255, 0] * 9, np.uint8).reshape(3, 4, 3)
    return {
        "format": 1,
        "cases": [
            _listed("same-size", noise(4, 6, 3, 1), rgb),
            _listed("wide-cropped-and-shrunk", noise(9, 17, 3, 2), rgb),
            _listed("tall-cropped-and-shrunk", noise(19, 7, 3, 3), rgb),
            _listed("enlarged", noise(2, 3, 3, 4), rgb),
            _listed("shrunk-one-way-enlarged-the-other", noise(3, 13, 3, 5), stretched),
            _listed("one-pixel", noise(1, 1, 3, 6), rgb),
            _listed("one-row", noise(1, 40, 3, 7), rgb),
            _listed("gray-to-rgb", ramp, rgb),
            _listed("rgb-to-gray", noise(6, 6, 3, 8), gray),
            _listed("rgb-to-gray-same-size", noise(5, 5, 3, 9), gray),
            _listed("ramp-to-gray", ramp, gray),
            _listed("extremes", extremes, rgb),
            _generated("camera-to-224", (480, 640, 3), 10, image_spec((224, 224), "RGB", mean=MEAN, std=STD)),
            _generated("portrait-to-224", (401, 250, 3), 11, image_spec((224, 224), "RGB", mean=MEAN, std=STD)),
            _generated("fashion-to-32", (28, 28, 1), 12, image_spec((32, 32), "gray")),
            _generated("small-to-wide", (33, 31, 3), 13, image_spec((96, 160), "RGB")),
        ],
    }


def _listed(name: str, image: NDArray[np.uint8], spec: InputSpec) -> dict[str, Any]:
    return _case(name, image, {"pixels": image.reshape(-1).tolist()}, spec)


def _generated(name: str, shape: tuple[int, int, int], seed: int, spec: InputSpec) -> dict[str, Any]:
    return _case(name, noise(*shape, seed), {"generator_seed": seed}, spec)


def _case(name: str, image: NDArray[np.uint8], source: dict[str, Any], spec: InputSpec) -> dict[str, Any]:
    height, width, channels = image.shape
    crop = center_crop(height, width, spec.size) if spec.crop else (0, 0, height, width)
    fitted = fit_pixels(image[None], spec)[0]
    expected: dict[str, Any] = {"crop": list(crop), "sha256": hashlib.sha256(fitted.tobytes()).hexdigest()}
    if fitted.size <= LONGEST_LIST:
        expected["pixels"] = fitted.reshape(-1).tolist()
        expected["tensor_bits"] = preprocess(image, spec).reshape(-1).view(np.uint32).tolist()
    return {
        "name": name,
        "image": {"height": height, "width": width, "channels": channels, **source},
        "input": spec.to_json(),
        "expected": expected,
    }


def text(content: dict[str, Any]) -> str:
    """One case a line: small files whose changes can be read."""
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in content["cases"])
    return f'{{"format":{content["format"]},"cases":[\n{lines}\n]}}\n'


def files() -> dict[str, bytes]:
    """File name -> content."""
    return {
        "weights.json": text(weights()).encode(),
        "images.json": text(images()).encode(),
        "schema.json": (json.dumps(schema(), indent=1) + "\n").encode(),
    }
