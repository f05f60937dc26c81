"""Figures of the C++ runner: that it equals the Python session on real images, and what its loop costs.

Both need the runner (`make runner`) and a bundle with exits of a CIFAR-10 network, which `cifar_bundle` builds.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
from processes import EBB, run

from ebbtide.bundle import Bundle, load_public_key, open_bundle
from ebbtide.data import preprocess
from ebbtide.engine import ExecuTorchEngine
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Result, Session
from ebbtide.runtime.runner import Answer, Runner, find_runner, run_overhead

HERE = Path(__file__).resolve().parent
IMAGES = 10_000


def cifar_bundle(home: Path, network: str = "resnet20") -> Bundle:
    """A bundle of a shared CIFAR-10 network with exits, built if it is not yet there.

    Args:
        home: of the build; a later call with the same one finds it finished.
        network: resnet20 or resnet56.
    """
    out = home / "out"
    run([*EBB, "build", HERE / "recipes" / f"cifar10_{network}.yaml", "--output", out, "--quiet"], home=home)
    return open_bundle(out / "bundles" / "host", [load_public_key(out / "public.pem")])


def adapter() -> ModuleType:
    """What reads the shared benchmark data."""
    sys.path.insert(0, str(HERE / "adapters"))
    return importlib.import_module("shared_data")


def cifar_test_images() -> npt.NDArray[np.uint8]:
    """All 10,000 test images of CIFAR-10: uint8 (10000, 32, 32, 3)."""
    return np.asarray(adapter().cifar10().images[-IMAGES:])


@dataclass
class Equality:
    """How many of `predictions` were equal in every bit, and the first that were not.

    `configurations` are those compared, `left_early` how many predictions left at an exit.
    """

    predictions: int = 0
    equal: int = 0
    left_early: int = 0
    configurations: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the predictions that were equal, 0 to 1."""
        return self.equal / self.predictions


def is_equal(found: Answer, expected: Result) -> bool:
    """Whether exit, label, confidence, probabilities and logits are the same, bit for bit."""
    return (
        (found.left_at, found.label, found.outside) == (expected.left_at, expected.label, expected.outside)
        and np.float32(found.confidence).tobytes() == np.float32(expected.confidence).tobytes()
        and found.probabilities.tobytes() == expected.probabilities.tobytes()
        and found.logits.tobytes() == expected.logits.tobytes()
    )


def runner_equal_share(
    bundle: Bundle, images: npt.NDArray[np.uint8], configurations: tuple[str, ...] | None = None
) -> Equality:
    """Predict images (n, H, W, C) with the Python session and with the runner, which preprocesses them itself.

    Args:
        bundle: raw or unpacked.
        images: pictures as they are decoded.
        configurations: None for those of the tiers.
    """
    found = Equality()
    with Session(bundle, ExecuTorchEngine(threads=1)) as session, Runner(bundle.folder) as runner:
        for name in configurations or bundle.manifest.tiers:
            session.switch(name)
            runner.switch(name)
            found.configurations.append(name)
            for index, (image, answer) in enumerate(zip(images, runner.predict_all(images), strict=True)):
                expected = session.predict(image)
                found.predictions += 1
                found.left_early += "/exit" in expected.left_at
                if is_equal(answer, expected):
                    found.equal += 1
                elif len(found.differences) < 10:
                    found.differences.append(f"{name}, image {index}: {answer.left_at}, not {expected.left_at}")
    return found


def runner_overhead_us(bundle: Bundle, images: npt.NDArray[np.uint8], *, turns: int = 9) -> list[float]:
    """Microseconds that the runner's prediction loop adds to a method's bare `Module::execute`, one value a turn.

    Each turn is a process of its own with another image, on tier 0: the median over interleaved rounds.
    """
    with Session(bundle, ExecuTorchEngine(threads=1)) as session:
        spec = session.input
    samples = (preprocess(image, spec)[None] for image in images[:turns])
    return [run_overhead(bundle.folder, sample)["overhead_ns_per_call"] / 1000 for sample in samples]


def left_out() -> Iterator[str]:
    """Why these figures cannot be measured here; nothing if they can."""
    for is_there in (adapter().data_folder, find_runner):
        try:
            is_there()
        except EbbtideError as error:
            yield f"{error.message} {error.hint}"
