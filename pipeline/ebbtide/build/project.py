"""What all steps of a build share: the recipe, the store, and what has been told on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ebbtide.recipe import Recipe, step_inputs
from ebbtide.steps import Progress, StepStore, canonical_json, write_json

if TYPE_CHECKING:
    from ebbtide.model import Graph

TORCH = ("torch", "numpy")
LOWERING = (*TORCH, "executorch", "torchao")


@dataclass(frozen=True)
class Notice:
    """Something chosen, given up or worth a second look; goes to the log, the result and the report."""

    kind: Literal["choice", "fallback", "warning"]
    subject: str
    text: str


@dataclass
class Project:
    """One build.

    Attributes:
        recipe: validated.
        text: the recipe as written, overrides appended as comments.
        store: where steps are kept.
        allow_code: whether the recipe's own Python files may run.
        progress: where it is told.
        path: the recipe's file; None where there is none.
        overrides: ``a.b=c`` each, as they were given.
        notices: collected in order.
        graphs: the recipe's model by what its structure depends on, captured once; see `universal.fresh_graph`.
    """

    recipe: Recipe
    text: str
    store: StepStore
    allow_code: bool
    progress: Progress
    path: Path | None = None
    overrides: tuple[str, ...] = ()
    notices: list[Notice] = field(default_factory=list)
    graphs: dict[str, Graph] = field(default_factory=dict, repr=False)

    def inputs(self, *keys: str) -> dict[str, Any]:
        """Parts of the recipe with files replaced by their digests."""
        return step_inputs(self.recipe, *keys, digest=self.store.digest)

    def varied(self, **changes: Any) -> Project:
        """The same build of a recipe with some sections changed; its notices are told here."""
        return replace(self, recipe=self.recipe.model_copy(update=changes))

    def notice(self, kind: Literal["choice", "fallback", "warning"], subject: str, text: str) -> None:
        """Tell something once, now and in the report."""
        found = Notice(kind, subject, text)
        if found not in self.notices:
            self.notices.append(found)
            self.progress.say(f"{subject}: {text}")

    def step(
        self,
        name: str,
        inputs: dict[str, Any],
        produce: Callable[[Path, Path], None],
        *,
        code: Iterable[str],
        libraries: Iterable[str] = TORCH,
    ) -> Path:
        """Run a step or find it stored; see `StepStore.run`."""
        return self.store.run(name, inputs, produce, code=("ebbtide.build", *code), libraries=libraries)

    def json_step(
        self,
        name: str,
        inputs: dict[str, Any],
        compute: Callable[[], Any],
        *,
        code: Iterable[str],
        libraries: Iterable[str] = TORCH,
    ) -> Any:
        """A step whose output is one JSON value, computed or read."""

        def produce(folder: Path, _: Path) -> None:
            write_json(folder / "value.json", compute())

        folder = self.step(name, inputs, produce, code=code, libraries=libraries)
        return read_json(folder / "value.json")


def read_json(file: Path) -> Any:
    """A JSON file of ours."""
    return json.loads(file.read_bytes())


def same_json(value: Any) -> Any:
    """A value as it looks after a trip through JSON, so that computed and stored ones are alike."""
    return json.loads(canonical_json(value))
