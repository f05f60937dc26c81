"""What users call, from Python and through the command line; each function is one sentence of the product.

Nothing heavy is imported before a function needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.api.adaptive import run_adaptive
from ebbtide.api.choice import Chosen, choose
from ebbtide.api.personalise import Request, parse_classes, personalise
from ebbtide.api.runner import bench_runner
from ebbtide.api.serve import serve
from ebbtide.api.simulate import Simulated, simulate
from ebbtide.errors import EbbtideError
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from ebbtide.build.project import Project
    from ebbtide.build.road import BuildResult
    from ebbtide.bundle import Bundle, BundleDiff, PublicKey
    from ebbtide.runtime import AdaptiveSession, BenchReport, Result, Session

__all__ = [
    "Checked",
    "Chosen",
    "Inspected",
    "Prediction",
    "Request",
    "Simulated",
    "bench",
    "bench_runner",
    "build",
    "check",
    "choose",
    "default_cache",
    "diff",
    "init",
    "inspect",
    "install",
    "new_key",
    "parse_classes",
    "personalise",
    "public_key",
    "run",
    "run_adaptive",
    "serve",
    "simulate",
    "verify",
]


def default_cache() -> Path:
    """The user's cache folder for finished steps: ``$EBBTIDE_CACHE``, else under ``$XDG_CACHE_HOME`` or ~/.cache."""
    own = os.environ.get("EBBTIDE_CACHE")
    if own:
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "ebbtide"


def _project(
    recipe: Path, overrides: Sequence[str], *, allow_code: bool, cache: Path | None, progress: Progress
) -> Project:
    from ebbtide.recipe import load_recipe

    read = load_recipe(recipe, overrides=overrides, allow_code=allow_code)
    # Only a sound recipe is worth the imports of a build.
    from ebbtide.build.origin import recipe_text
    from ebbtide.build.project import Project
    from ebbtide.steps import StepStore

    store = StepStore(cache or default_cache(), progress=progress)
    return Project(
        recipe=read,
        text=recipe_text(recipe, overrides),
        store=store,
        allow_code=allow_code,
        progress=progress,
        path=recipe,
        overrides=tuple(overrides),
    )


def init(path: Path) -> Path:
    """Write a commented recipe with every default visible; an existing file is never overwritten.

    Raises:
        EbbtideError: ``api.exists``, ``steps.read_only``, ``steps.disk_full``.
    """
    from ebbtide.recipe import named_after
    from ebbtide.recipe.template import init_text
    from ebbtide.steps import storage_errors, write_bytes

    if path.exists():
        raise EbbtideError(
            "api.exists", "There is a file already", place=str(path), hint="Give another name, or move the file away."
        )
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, init_text(named_after(path)).encode())
    return path


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    Attributes:
        name: of the recipe.
        classes: names of the class set.
        universal_classes: how many the universal model knows.
        splits: samples of train, select and test.
        outside: samples of other classes for select and test; None where the recipe asks for no outside detection.
        input_shape: without the batch.
        accuracy: metric of the model on select; None if the build would train it first.
        metric: its name.
        macs, parameters: of the model.
        stages: the chosen cut points.
        notices: what was chosen and why.
    """

    name: str
    classes: tuple[str, ...]
    universal_classes: int
    splits: dict[str, int]
    outside: dict[str, int] | None
    input_shape: tuple[int, ...]
    accuracy: float | None
    metric: str
    macs: int
    parameters: int
    stages: tuple[str, ...]
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def check(
    recipe: Path,
    *,
    overrides: Sequence[str] = (),
    allow_code: bool = True,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Checked:
    """Validate recipe, data, model and devices without building.

    Raises:
        EbbtideError: the first thing that is wrong; for the recipe itself, all things at once.
    """
    project = _project(recipe, overrides, allow_code=allow_code, cache=cache, progress=progress)
    from ebbtide.build.checking import check_project

    return Checked(**check_project(project))


@dataclass(frozen=True)
class Inspected:
    """A model's graph in numbers: see `ebbtide.model.inspect`."""

    facts: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    svg: Path | None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**self.facts, "rows": list(self.rows), "svg": str(self.svg) if self.svg else None}


def inspect(
    recipe: Path,
    *,
    overrides: Sequence[str] = (),
    allow_code: bool = True,
    cache: Path | None = None,
    groups: bool = False,
    svg: Path | None = None,
    progress: Progress = silent,
) -> Inspected:
    """Cut points, stages and costs of a recipe's model, or its coupling groups, without training it."""
    project = _project(recipe, overrides, allow_code=allow_code, cache=cache, progress=progress)
    from ebbtide.build.checking import inspect_project

    facts, rows = inspect_project(project, groups=groups, svg=svg)
    return Inspected(facts, tuple(rows), svg)


def build(
    recipe: Path,
    *,
    overrides: Sequence[str] = (),
    allow_code: bool = True,
    cache: Path | None = None,
    output: Path | None = None,
    measurements: Path | None = None,
    progress: Progress = silent,
) -> BuildResult:
    """Build signed, verified bundles and the report; see `ebbtide.build.road.build`."""
    project = _project(recipe, overrides, allow_code=allow_code, cache=cache, progress=progress)
    from ebbtide.build.road import build as run_road

    return run_road(project, output=output or Path("build") / project.recipe.name, measurements=measurements)


def _trusted(files: Sequence[Path] | None) -> list[PublicKey]:
    from ebbtide.bundle import load_private_key, load_public_key

    if files:
        return [load_public_key(file) for file in files]
    from ebbtide.build.bundles import development_key

    own = development_key()
    if not own.exists():
        raise EbbtideError(
            "bundle.key_untrusted",
            "No trusted key is given, and this machine has no development key",
            hint="Give the public key of whoever signed the bundle: --key public.pem",
        )
    return [load_private_key(own).public]


def verify(bundle: Path, *, trusted: Sequence[Path] | None = None, minimum_sequence: int = 0) -> dict[str, Any]:
    """Check a bundle completely; nothing in it is run."""
    from ebbtide.bundle import open_bundle

    opened = open_bundle(bundle, _trusted(trusted), minimum_sequence=minimum_sequence)
    return {**_facts(opened), "verified": True}


def install(bundle: Path, *, store: Path, trusted: Sequence[Path] | None = None) -> dict[str, Any]:
    """Verify a bundle and install it into a store, which keeps the last good one."""
    from ebbtide.bundle import Store

    return _facts(Store(store).install(bundle, _trusted(trusted)))


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "sequence": manifest.sequence,
        "device": manifest.device.profile,
        "key_id": bundle.key_id,
        "files": len(manifest.files),
        "bytes": sum(entry.size for entry in manifest.files),
        "folder": str(bundle.folder),
        "notes": list(bundle.notes),
    }


def diff(old: Path, new: Path) -> BundleDiff:
    """What changed from one bundle to another, and how many bytes travel; both are read without trusting a key."""
    from ebbtide.bundle import diff_bundles
    from ebbtide.bundle.reader import open_installed

    return diff_bundles(open_installed(old), open_installed(new))


@dataclass(frozen=True)
class Prediction:
    """One input and what came out.

    Attributes:
        name: of the input.
        result: what the session gave back.
        top: how many classes are shown.
        t_ms: the time of the recorded signals before it; None without a recording.
        ask: the bundle to ask instead, where the answer is "outside" and the bundle names one.
    """

    name: str
    result: Result
    top: int
    t_ms: int | None = None
    ask: str | None = None

    @classmethod
    def of(cls, session: Session, name: str, result: Result, top: int, t_ms: int | None = None) -> Prediction:
        """With the bundle to ask instead, as the session's manifest names it."""
        rule = session.manifest.model.outside
        return cls(name, result, top, t_ms, rule.fallback if rule is not None and result.outside else None)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        when = {} if self.t_ms is None else {"t_ms": self.t_ms}
        asked = {} if self.ask is None else {"ask": self.ask}
        return {"input": self.name, **when, **self.result.to_json(top=self.top), **asked}


def run(
    bundle: Path,
    source: Path,
    *,
    configuration: str | None = None,
    top: int = 3,
    trusted: Sequence[Path] | None = None,
    server: str | None = None,
    stream: Path | None = None,
    progress: Progress = silent,
) -> list[Prediction]:
    """Predict an image, a folder of images or an .npz with the real runtime.

    `server` is the address of an `ebb serve` of the same bundle. `stream` is a file of settings
    (`ebbtide.runtime.scenes.read_settings`): the inputs are then the frames of one camera, in order.
    """
    from ebbtide.runtime import load_inputs

    inputs = load_inputs(source)
    for name in inputs.skipped:
        progress.say(f"Left out {name}: not an image")
    with _session(bundle, trusted, configuration=configuration, server=server) as session:
        predict = _frames(session, stream)
        return [Prediction.of(session, name, predict(value), top) for name, value in inputs]


def _frames(session: Session | AdaptiveSession, stream: Path | None) -> Callable[[Any], Result]:
    """What predicts the inputs: the session, or a stream of frames on it."""
    if stream is None:
        return session.predict
    from ebbtide.runtime import Stream
    from ebbtide.runtime.scenes import read_settings

    return Stream(session, read_settings(stream)).predict


def bench(
    bundle: Path,
    source: Path | None = None,
    *,
    repeats: int = 20,
    trusted: Sequence[Path] | None = None,
    progress: Progress = silent,
) -> BenchReport:
    """Time every tier of a bundle here, on real inputs, interleaved."""
    from ebbtide.runtime import bench as run_bench

    values = _bench_inputs(bundle, source)
    with _session(bundle, trusted) as session:
        return run_bench(session, values, rounds=repeats, progress=progress)


def _bench_inputs(bundle: Path, source: Path | None) -> list[Any]:
    """The inputs at a path, or those that a build left beside its bundles."""
    from ebbtide.runtime import load_inputs

    found = source or next((p for p in (bundle.parents[1] / "samples.npz",) if p.exists()), None)
    if found is None:
        raise EbbtideError(
            "runtime.bench",
            "There are no inputs to time",
            expected="an image, a folder or an .npz",
            hint="Name some: ebb bench BUNDLE FOLDER",
        )
    return [value for _, value in load_inputs(found)]


@contextmanager
def _session(
    bundle: Path, trusted: Sequence[Path] | None, *, configuration: str | None = None, server: str | None = None
) -> Iterator[Session]:
    from ebbtide.build.programs import open_engine
    from ebbtide.bundle import open_unpacked
    from ebbtide.runtime import Session

    with (
        open_unpacked(bundle, _trusted(trusted)) as opened,
        Session(opened, open_engine(), configuration=configuration, server=server) as session,
    ):
        yield session


def new_key(path: Path) -> dict[str, Any]:
    """Make a signing key; an existing file is never overwritten."""
    from ebbtide.bundle import new_key as make

    return {"key": str(path), "key_id": make(path).public.key_id}


def public_key(path: Path) -> dict[str, Any]:
    """The public half of a private key."""
    from ebbtide.bundle import load_private_key

    public = load_private_key(path).public
    return {"key_id": public.key_id, "public_key": public.pem().decode()}
