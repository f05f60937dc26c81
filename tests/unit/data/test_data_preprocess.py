"""bilinear-v1 against its vectors, against the definition written out slowly, and against Pillow."""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import subprocess
import sys
from fractions import Fraction
from itertools import accumulate, pairwise
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ebbtide.data import InputDefaults, InputSpec, image_spec, preprocess, signal_spec
from ebbtide.data.input import resolve_input
from ebbtide.data.preprocess import center_crop, fit_pixels, recolor, resize, resize_weights
from ebbtide.errors import EbbtideError

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "preprocessing"
CASES = json.loads((VECTORS / "images.json").read_text())["cases"]
SIZES = st.integers(1, 24)


def pixels(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def slow_weights(inputs: int, outputs: int) -> list[list[int]]:
    """The definition in fractions: a triangle, normalised, its running sum times 2^14 rounded half up."""
    radius = max(Fraction(inputs, outputs), Fraction(1))
    rows = []
    for i in range(outputs):
        centre = (i + Fraction(1, 2)) * Fraction(inputs, outputs)
        raw = [max(Fraction(0), 1 - abs(j + Fraction(1, 2) - centre) / radius) for j in range(inputs)]
        total = sum(raw)
        rounded = [0, *(floor(part / total * 2**14 + Fraction(1, 2)) for part in accumulate(raw))]
        rows.append([after - before for before, after in pairwise(rounded)])
    return rows


def slow_resize(image: np.ndarray[Any, Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    values = image.astype(object)
    for axis in (0, 1):
        if image.shape[axis] == size[axis]:
            continue
        table = slow_weights(image.shape[axis], size[axis])
        moved = np.moveaxis(values, axis, 0)
        rows = [sum(w * row for w, row in zip(weights, moved, strict=True)) for weights in table]
        values = np.moveaxis(np.stack([(row + 2**13) // 2**14 for row in rows]), 0, axis)
    return values.astype(np.uint8)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_preprocess_equals_vector(case: dict[str, Any]) -> None:
    source = case["image"]
    shape = source["height"], source["width"], source["channels"]
    if "pixels" in source:
        image = np.array(source["pixels"], np.uint8).reshape(shape)
    else:
        image = runpy.run_path(str(VECTORS / "generate.py"))["noise"](*shape, source["generator_seed"])
    spec = InputSpec.from_json(case["input"])
    fitted = fit_pixels(image[None], spec)[0]
    assert hashlib.sha256(fitted.tobytes()).hexdigest() == case["expected"]["sha256"]
    assert case["expected"]["crop"] == list(center_crop(*shape[:2], spec.size) if spec.crop else (0, 0, *shape[:2]))
    if "pixels" in case["expected"]:
        assert fitted.reshape(-1).tolist() == case["expected"]["pixels"]
        assert preprocess(image, spec).reshape(-1).view(np.uint32).tolist() == case["expected"]["tensor_bits"]


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES)
def test_weights_equal_definition_in_fractions(inputs: int, outputs: int) -> None:
    for (first, row), slow in zip(resize_weights(inputs, outputs), slow_weights(inputs, outputs), strict=True):
        assert [0] * first + list(row) + [0] * (inputs - first - len(row)) == slow
        assert sum(row) == 2**14
        assert min(row) >= 0


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, st.integers(0, 1000))
def test_resize_equals_slow_integers_and_pillow(height: int, width: int, to_h: int, to_w: int, seed: int) -> None:
    image = pixels((height, width, 3), seed)
    fast = resize(image[None], (to_h, to_w))[0]
    assert np.array_equal(fast, slow_resize(image, (to_h, to_w)))
    pillow = np.asarray(Image.fromarray(image).resize((to_w, to_h), Image.Resampling.BILINEAR))
    assert np.abs(fast.astype(int) - pillow).max() <= 1


def test_resize_is_exact_when_values_span_several_strips() -> None:
    image = pixels((9, 2000, 3), 1)
    assert np.array_equal(resize(image[None], (4, 2000))[0], slow_resize(image, (4, 2000)))


def test_resize_gives_stack_what_it_gives_each_image() -> None:
    stack = pixels((5, 13, 9, 1), 2)
    assert np.array_equal(resize(stack, (7, 20)), np.concatenate([resize(image[None], (7, 20)) for image in stack]))


def test_resize_keeps_flat_images_flat() -> None:
    for value in (0, 1, 127, 254, 255):
        assert np.unique(resize(np.full((1, 31, 17, 3), value, np.uint8), (9, 40))).tolist() == [value]


def test_gray_equals_pillow() -> None:
    image = pixels((64, 64, 3), 3)
    assert np.array_equal(recolor(image[None], "gray")[0, :, :, 0], np.asarray(Image.fromarray(image).convert("L")))


def test_preprocess_keeps_pixels_when_size_is_right() -> None:
    image = pixels((8, 6, 3), 4)
    spec = image_spec((8, 6), "RGB", mean=(0.0,), std=(1 / 255,))
    assert np.array_equal(preprocess(image, spec), image.transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize(
    ("image", "size", "expected"),
    [
        ((10, 20), (5, 5), (0, 5, 10, 10)),
        ((20, 10), (5, 5), (5, 0, 10, 10)),
        ((9, 16), (9, 16), (0, 0, 9, 16)),
        ((1, 9), (9, 1), (0, 4, 1, 1)),
        ((480, 641), (224, 224), (0, 80, 480, 480)),
    ],
)
def test_center_crop_keeps_middle(image: tuple[int, int], size: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert center_crop(*image, size) == expected


@settings(max_examples=200, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES)
def test_center_crop_stays_inside(height: int, width: int, to_h: int, to_w: int) -> None:
    top, left, kept_h, kept_w = center_crop(height, width, (to_h, to_w))
    assert kept_h >= 1
    assert kept_w >= 1
    assert 0 <= top <= height - kept_h
    assert 0 <= left <= width - kept_w
    assert kept_h == height or kept_w == width


def test_scale_and_bias_are_float32_when_mean_and_std_are_given() -> None:
    spec = image_spec((2, 2), "RGB", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert spec.scale[0] == float(np.float32(1 / (255 * 0.229)))
    assert spec.bias[2] == float(np.float32(-0.406 / 0.225))
    assert InputSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_signal_is_scaled_per_channel() -> None:
    spec = signal_spec((2, 3), mean=(1.0, 2.0), std=(2.0, 4.0))
    result = preprocess(np.array([[1, 3, 5], [2, 6, 10]], np.int16), spec)
    assert result.dtype == np.float32
    assert result.tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (np.zeros((4, 4, 4), np.uint8), "data.channels"),
        (np.zeros((4, 4, 3), np.float32), "data.array"),
        (np.zeros((0, 4, 3), np.uint8), "data.array"),
        (np.zeros((2, 4, 4, 3), np.uint8), "data.array"),
        ("picture.png", "data.array"),
    ],
)
def test_preprocess_refuses_what_is_no_image(image: Any, code: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        preprocess(image, image_spec((4, 4), "RGB"))
    assert caught.value.code == code


def test_preprocess_refuses_nan_signal_and_wrong_shape() -> None:
    spec = signal_spec((1, 3))
    with pytest.raises(EbbtideError) as caught:
        preprocess(np.array([[0, np.nan, 1]]), spec)
    assert caught.value.code == "data.not_finite"
    with pytest.raises(EbbtideError) as caught:
        preprocess(np.zeros((1, 4)), spec)
    assert caught.value.code == "data.array"


def test_preprocess_refuses_other_size_when_input_is_not_resized() -> None:
    fields = {**image_spec((4, 4), "RGB").to_json(), "resize": None}
    with pytest.raises(EbbtideError) as caught:
        preprocess(pixels((5, 4, 3)), InputSpec.from_json(fields))
    assert caught.value.code == "data.input"


class Wanted:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_recipe_wins_over_model_and_model_over_data() -> None:
    known = InputDefaults(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), size=(32, 32), color="RGB")
    spec, notes = resolve_input(None, known, kind="image", shape=(8, 8), color="gray")
    assert spec.shape == (3, 32, 32)
    assert spec.bias[0] == float(np.float32(-0.2))
    assert not notes
    wanted = Wanted(size=[16, 24], mean=[0.5], std=[0.25], color="gray", crop=None)
    spec, _ = resolve_input(wanted, known, kind="image", shape=(8, 8), color="RGB")
    assert (spec.shape, spec.crop, spec.bias) == ((1, 16, 24), None, (-2.0,))
    spec, notes = resolve_input(None, None, kind="image", shape=(8, 8), color="gray")
    assert (spec.shape, spec.bias) == ((1, 8, 8), (-1.0,))
    assert len(notes) == 1


def test_rgb_statistics_are_averaged_when_input_is_gray() -> None:
    known = InputDefaults(mean=(0.3, 0.4, 0.5), std=(0.2, 0.2, 0.2))
    spec, notes = resolve_input(Wanted(color="gray"), known, kind="image", shape=(8, 8), color="RGB")
    assert spec.bias == (float(np.float32(-2.0)),)
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("wanted", "shape", "kind", "code"),
    [
        (Wanted(), None, "image", "data.size_unknown"),
        (Wanted(), None, "signal", "data.size_unknown"),
        (Wanted(size=32), (1, 100), "signal", "data.input"),
        (Wanted(mean=[0.5]), (8, 8), "image", "data.input"),
        (Wanted(mean=[0.5, 0.5], std=[1, 1]), (8, 8), "image", "data.input"),
        (Wanted(mean=[0.5], std=[0]), (8, 8), "image", "data.input"),
        (Wanted(size=0), (8, 8), "image", "data.input"),
        (Wanted(color="CMYK"), (8, 8), "image", "data.input"),
    ],
)
def test_input_section_is_refused_when_it_does_not_fit(wanted: Any, shape: Any, kind: Any, code: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        resolve_input(wanted, None, kind=kind, shape=shape, color="RGB" if kind == "image" else None)
    assert caught.value.code == code


TIMED = """
import time, numpy as np
from ebbtide.data import image_spec, preprocess
image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
times = []
for _ in range(7):
    start = time.process_time()
    preprocess(image, image_spec((224, 224), "RGB"))
    times.append(time.process_time() - start)
print(min(times))
"""


@pytest.mark.slow
def test_preprocess_takes_under_150_ms_of_one_core_when_camera_picture_becomes_224() -> None:
    # Processor time of one thread: what else runs on the machine counts as little as possible.
    one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", TIMED], env=one, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.150
