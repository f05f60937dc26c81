"""Which exits the programs get: searched on eager records, before anything is lowered; and joint training of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ebbtide.build.backbone import Backbone, cache_backbone
from ebbtide.build.candidates import (
    Candidates,
    Key,
    digests,
    exit_file,
    kept_of,
    train_width,
    with_records,
)
from ebbtide.build.threads import fitting_threads
from ebbtide.steps import write_bytes, write_json

BACKBONE_FILE = "backbone.safetensors"


def train_candidates(backbones: Sequence[Backbone]) -> tuple[Candidates, ...]:
    """Train exits of every type at every position of every width, and choose those that programs get.

    The features of the widths differ, so each has exits and temperatures of its own. The exits are chosen over all
    widths at once, because the tiers are. Where the recipe says so, backbone and the exits that were kept then learn on
    together, and what comes of it is chosen from again.
    """
    trained: Sequence[Candidates] = [train_width(backbone) for backbone in backbones]
    found = _choose_exits(trained)
    section = backbones[0].project.recipe.exits
    if section is not None and section.train == "joint":
        trained = [_learned_jointly(one, first) for one, first in zip(trained, found, strict=True)]
        found = _choose_exits(trained)
    return kept_of(trained, found)


def _choose_exits(trained: Sequence[Candidates]) -> list[dict[str, Any]]:
    """Search on the eager records which exits the tiers would use; boundaries of all others are fused away.

    Returns:
        For each width ``kept``, one exit type for each position worth having, ``chosen``, those that tiers use,
        what keeping one type costs (``mean_loss_points``, ``worst_loss_points``), and the fronts of simpler ``ways``.
    """
    project, classes = trained[0].backbone.project, trained[0].backbone.classes
    inputs = {
        "widths": [{**one.backbone.identity(), "records": project.store.digest(one.records_file)} for one in trained],
        "reference": trained[0].reference,
        **project.inputs("tiers", "metric", "exits.search", "exits.constraint", "seed"),
    }

    def compute() -> list[dict[str, Any]]:
        from ebbtide.build.scores import Scorable, choose, settle, ways

        recipe = project.recipe
        everything = [Scorable(one.width, one.records(), one.costs()) for one in trained]
        settled = [settle(one, recipe=recipe, classes=classes, progress=project.progress) for one in everything]
        kept = [replace(one, records=one.records.only(its.keys)) for one, its in zip(everything, settled, strict=True)]
        found = choose(kept, recipe=recipe, classes=classes, reference=trained[0].reference, progress=project.progress)
        tiers = [found.rows[index] for index in found.tiers]
        choices = []
        for one, its in zip(everything, settled, strict=True):
            used = {position for row in tiers if row.width == one.width for position, _ in row.thresholds}
            choices.append(
                {
                    "kept": [list(key) for key in its.keys],
                    "chosen": [list(key) for key in its.keys if key.position in used],
                    "mean_loss_points": its.mean_loss_points,
                    "worst_loss_points": its.worst_loss_points,
                    "ways": ways(one, its.keys, recipe=recipe, classes=classes) if recipe.exits else [],
                }
            )
        return choices

    value: list[dict[str, Any]] = project.json_step(
        "positions", inputs, compute, code=("ebbtide.search", "ebbtide.exits")
    )
    return value


def _learned_jointly(frozen: Candidates, choice: dict[str, Any]) -> Candidates:
    """The candidates of a new backbone that learned on together with the exits worth having."""
    backbone = frozen.backbone
    project = backbone.project
    keys: list[Key] = [(position, kind) for position, kind in choice["kept"]]
    if not keys:
        project.notice("choice", "exits", "no exit is worth having, so there is nothing to train the backbone with")
        return frozen
    project.notice(
        "choice",
        "backbone",
        f"it learned on together with {len(keys)} exits (train: joint), from the model as it came: the bundles hold a "
        "new backbone, not the model that was given",
    )
    folder = _joint_step(frozen, keys)
    file = folder / BACKBONE_FILE

    def make_graph() -> Any:
        from safetensors.torch import load_file

        graph = backbone.graph.copy()
        graph.load(load_file(file))
        return graph.eval()

    new = replace(backbone, weights_digest=project.store.digest(file), make_graph=make_graph, is_joint=True)
    features = cache_backbone(new, "select", keys)
    exits = {key: folder / exit_file(key) for key in keys}
    return with_records(new, exits, features, left_out=frozen.left_out, original=frozen.whole)


def _joint_step(frozen: Candidates, keys: Sequence[Key]) -> Path:
    backbone = frozen.backbone
    project, section = backbone.project, backbone.project.recipe.exits
    assert section is not None
    # Select is only shown meanwhile.
    inputs = {
        **backbone.identity("train"),
        "exits": digests(backbone, ((key, frozen.exits[key]) for key in keys)),
        **project.inputs("training", "exits.joint", "metric", "seed"),
    }

    def produce(folder: Path, scratch: Path) -> None:
        from safetensors.torch import save

        from ebbtide.exits import ExitKey, save_exit
        from ebbtide.exits.joint import train_joint

        settings = project.recipe.joint_settings
        with fitting_threads(backbone.model["macs"] * settings.batch_size):
            found = train_joint(
                backbone.graph,
                backbone.cuts,
                {ExitKey(*key): frozen.load_exit(key) for key in keys},
                backbone.dataset.train,
                backbone.dataset.select,
                settings=settings,
                metric=project.recipe.metric,
                exit_share=section.joint.exit_share,
                weight=section.joint.weight,
                temperature=section.joint.temperature,
                checkpoint=scratch / "joint.safetensors",
                progress=project.progress,
            )
        state = save({name: t.cpu().contiguous() for name, t in found.graph.state().items()})
        write_bytes(folder / BACKBONE_FILE, state)
        for key, trained in found.exits.items():
            save_exit(trained, folder / exit_file(key))
        write_json(folder / "history.json", found.history.to_json())

    return project.step(
        "joint",
        inputs,
        produce,
        code=("ebbtide.exits", "ebbtide.model", "ebbtide.data"),
        libraries=("torch", "numpy", "safetensors"),
    )
