"""``ebb personalise``: a smaller model for one user's classes from a universal model that was built before."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ebbtide.errors import EbbtideError
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from ebbtide.build.road import BuildResult
    from ebbtide.recipe import Recipe

NAMED = 4
"""A bundle for at most so many classes is named after them."""
QUICK = (
    "sparsity.schedule.steps=1",
    "sparsity.schedule.batches=10",
    "sparsity.tuning.epochs=2",
    "sparsity.tuning.warmup_epochs=0",
    "sparsity.tuning.views=1",
    "sparsity.reference=universal",
)
"""A first bundle: one removal, little learning, a teacher asked once, and no whole model fine-tuned to compare with."""
QUICK_TARGETS = {"channels": "{macs: 0.5}", "hybrid": "{weights: 0.4}"}
"""What two passes can mend: ResNet-20 x2 keeps its accuracy at half its work, and loses a quarter of it at a tenth."""


@dataclass(frozen=True)
class Request:
    """What is asked for beside the classes; what is None is left as the recipe has it.

    Attributes:
        pattern: channels or hybrid.
        max_drop_points: the loss that is allowed, in points of accuracy.
        macs: share of the multiply-accumulates that may remain.
        quick: a first bundle soon: one removal to a target, few passes.
    """

    pattern: Literal["channels", "hybrid"] | None = None
    max_drop_points: float | None = None
    macs: float | None = None
    quick: bool = False


def personalise(
    source: Path,
    classes: Sequence[str | int],
    *,
    request: Request = Request(),
    name: str | None = None,
    overrides: Sequence[str] = (),
    allow_code: bool = True,
    cache: Path | None = None,
    output: Path | None = None,
    measurements: Path | None = None,
    progress: Progress = silent,
) -> BuildResult:
    """Build a bundle for a class set; the universal model's own steps are found stored, so only the rest is paid.

    Args:
        source: the universal model's recipe, the output folder of its build, or a bundle in there.
        classes: names or indices of the user's classes, two or more.
        request: how small, and by which pattern; of nothing said, a loss of 1 point is allowed.
        name: of the bundle; None: after the recipe and the classes.
        overrides: ``a.b=c`` each, later ones win; those of the universal build are applied before.
        allow_code: False refuses what would run code of the user's.
        cache: where finished steps are kept.
        output: where bundle and report go; None: ``build/NAME``.
        measurements: a measurement record to take instead of measuring.
        progress: told what is being done.

    Raises:
        EbbtideError: ``api.changed`` where the recipe is not what the build was of, ``api.class_set`` where it builds a
            class set alone, ``recipe.*``, and what a build raises.
    """
    from ebbtide import api
    from ebbtide.recipe import load_recipe

    recipe, before = recipe_of(source)
    universal = load_recipe(recipe, overrides=before, allow_code=allow_code)
    if universal.classes != "all" and universal.trains_model and universal.sparsity is None:
        raise EbbtideError(
            "api.class_set",
            "This recipe trains its model on a class set alone; it has no universal model",
            expected="classes: all, or a model that comes with weights of all classes",
            place=str(recipe),
            hint="Name a recipe or build of all classes.",
        )
    own = [
        f"name={name or name_for(universal.name, classes)}",
        f"classes={json.dumps(list(classes), ensure_ascii=False)}",
        *wanted(universal, request),
    ]
    return api.build(
        recipe,
        overrides=[*before, *own, *overrides],
        allow_code=allow_code,
        cache=cache,
        output=output,
        measurements=measurements,
        progress=progress,
    )


def recipe_of(source: Path) -> tuple[Path, list[str]]:
    """The recipe of a universal model, and the overrides that it was built with.

    Args:
        source: a recipe, the output folder of a build, or a bundle in there.

    Raises:
        EbbtideError: ``api.changed`` where the recipe is not what the build was of, or nothing says where it is.
    """
    from ebbtide.build.origin import read_origin

    if not source.is_dir():
        return source, []
    folder = next((one for one in (source, *source.absolute().parents[:2]) if (one / "report.json").is_file()), source)
    return read_origin(folder)


def wanted(universal: Recipe, request: Request) -> list[str]:
    """Overrides that say how small the model is to be.

    Args:
        universal: the recipe; what it says of sparsity is kept where the request does not say otherwise.
        request: what is asked for.

    Raises:
        EbbtideError: ``recipe.conflict`` for two ends at once.
    """
    if request.macs is not None and request.max_drop_points is not None:
        raise _both("--macs and --max-drop-points")
    if request.quick and request.max_drop_points is not None:
        raise _both("--quick and --max-drop-points")
    said = universal.sparsity
    found = [] if request.pattern is None else [f"sparsity.pattern={request.pattern}"]
    target = None if request.macs is None else f"{{macs: {request.macs!r}}}"
    limit = request.max_drop_points
    if target is None and request.quick and (said is None or said.target is None):
        target = QUICK_TARGETS[request.pattern or (said.pattern if said else "channels")]
    if target is None and limit is None and said is None:
        limit = 1.0
    if target is not None:
        found += ["sparsity.max_drop_points=null", f"sparsity.target={target}"]
    elif limit is not None:
        found += ["sparsity.target=null", f"sparsity.max_drop_points={limit!r}"]
    if request.quick:
        found += QUICK
        if said is not None and said.distillation.teacher == "tuned":
            found.append("sparsity.distillation.teacher=universal")
    return found


def _both(names: str) -> EbbtideError:
    return EbbtideError(
        "recipe.conflict",
        f"{names} name two different ends",
        expected="one of them",
        hint="--macs gives a target, --max-drop-points looks for one; --quick goes to a target at once.",
    )


def name_for(name: str, classes: Sequence[Any]) -> str:
    """The universal bundle's name with the classes, or with their number and a digest where they are many."""
    words = [re.sub(r"[^a-z0-9]+", "-", str(one).lower()).strip("-") for one in classes]
    found = f"{name}-{'-'.join(words)}"
    if len(classes) <= NAMED and all(words) and len(found) <= 64:
        return found
    digest = hashlib.sha256("\n".join(map(str, classes)).encode()).hexdigest()[:8]
    return f"{name[:40].rstrip('-._')}-{len(classes)}-classes-{digest}"


def parse_classes(text: str) -> list[str | int]:
    """Classes as they are written on a command line: separated by commas, whole numbers are indices.

    A name that holds a comma or is a number can be quoted, as in JSON: ``cat,"7","a, b"``.
    """
    found: list[str | int] = []
    for quoted, plain in re.findall(r'\s*("(?:[^"\\]|\\.)*")\s*(?:,|$)|([^,]+)', text):
        if quoted:
            found.append(str(json.loads(quoted)))
        elif plain.strip():
            word = plain.strip()
            found.append(int(word) if word.isdecimal() else word)
    return found
