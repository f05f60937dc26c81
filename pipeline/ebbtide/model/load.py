"""The universal model of a recipe, from wherever it comes, as a `Graph`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ebbtide.errors import EbbtideError, nearest
from ebbtide.model.capture import capture, from_program
from ebbtide.model.checkpoint import fill, read_checkpoint
from ebbtide.model.graph import Graph
from ebbtide.model.origin import first_line

if TYPE_CHECKING:
    from ebbtide.recipe import ModelSection

_DOWNLOADING = ("pretrained", "weights", "weights_backbone", "checkpoint_path", "pretrained_cfg", "features_only")


def load_model(
    section: ModelSection, *, input_shape: tuple[int, ...], universal_classes: int, allow_code: bool
) -> Graph:
    """Make the model that a recipe names and fill in its weights; nothing is downloaded.

    Args:
        section: the recipe's ``model``, paths absolute.
        input_shape: shape of a sample: (C, H, W) or (C, T).
        universal_classes: how many classes the model must have.
        allow_code: whether a factory or an exported program, both of which run code, may be used.

    Returns:
        The graph in evaluation mode on the CPU; its notes say what was changed on the way.

    Raises:
        EbbtideError: ``model.*`` for anything wrong with model or weights, ``recipe.no_code`` where code is not
            allowed, ``recipe.missing_file``.
    """
    if section.exported is not None:
        _allow(allow_code, f"the exported program {section.exported.name}")
        return _exported(section.exported, input_shape, universal_classes)
    module, place = _module(section, input_shape, universal_classes, allow_code)
    notes: tuple[str, ...] = ()
    if section.weights is not None:
        state, notes = read_checkpoint(section.weights)
        notes = (*notes, *fill(module, state, place=str(section.weights)))
    graph = capture(module, input_shape, classes=universal_classes, place=place)
    graph.notes = (*notes, *graph.notes)
    return graph


def _allow(allow_code: bool, what: str) -> None:
    if not allow_code:
        raise EbbtideError(
            "recipe.no_code",
            f"Loading {what} runs code, and --no-code forbids it",
            place="model",
            hint="Leave --no-code out where you trust the file, or use timm or torchvision with a weights file.",
        )


def _module(
    section: ModelSection, input_shape: tuple[int, ...], classes: int, allow_code: bool
) -> tuple[torch.nn.Module, str]:
    if section.factory is not None:
        _allow(allow_code, f"the factory {section.factory}")
        return _from_factory(section.factory, dict(section.arguments)), section.factory
    forbidden = [key for key in section.arguments if key in _DOWNLOADING]
    if forbidden:
        raise EbbtideError(
            "model.arguments",
            f"The argument {forbidden[0]!r} would choose or download weights",
            place=f"model.arguments.{forbidden[0]}",
            hint="Delete it and give the weights file as model.weights.",
        )
    if section.timm is not None:
        return _from_timm(section.timm, dict(section.arguments), input_shape[0], classes), f"timm {section.timm}"
    assert section.torchvision is not None
    made = _from_torchvision(section.torchvision, dict(section.arguments), classes)
    return made, f"torchvision {section.torchvision}"


def _from_factory(text: str, arguments: dict[str, Any]) -> torch.nn.Module:
    from ebbtide.recipe import code_entry

    module = _make(lambda: code_entry(text, Path()).load()(**arguments), text)
    if not isinstance(module, torch.nn.Module):
        raise EbbtideError(
            "model.arguments",
            "The factory does not return a torch.nn.Module",
            place=text,
            found=type(module).__name__,
            hint="Return the model itself, weights loaded or not.",
        )
    return module


def _from_timm(name: str, arguments: dict[str, Any], channels: int, classes: int) -> torch.nn.Module:
    try:
        import timm
    except ImportError as error:
        raise _not_installed("timm") from error
    if not timm.is_model(name.partition(".")[0]):
        raise _unknown("timm", name, timm.list_models())
    settings = {"num_classes": classes, "in_chans": channels, **arguments}
    module: torch.nn.Module = _make(lambda: timm.create_model(name, pretrained=False, **settings), f"timm {name}")
    return module


def _from_torchvision(name: str, arguments: dict[str, Any], classes: int) -> torch.nn.Module:
    try:
        from torchvision import models
    except ImportError as error:
        raise _not_installed("torchvision") from error
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    settings: dict[str, Any] = {"num_classes": classes, **arguments}
    if name in ("googlenet", "inception_v3"):
        settings.setdefault("init_weights", True)  # only says which initial weights; left out, it warns
    module: torch.nn.Module = _make(lambda: models.get_model(name, weights=None, **settings), f"torchvision {name}")
    return module


def _make(call: Callable[[], Any], place: str) -> Any:
    try:
        return call()
    except EbbtideError:
        raise
    except Exception as error:
        raise EbbtideError(
            "model.arguments",
            f"The model could not be made: {type(error).__name__}: {first_line(error)}",
            place=place,
            hint="Correct model.arguments.",
        ) from error


def _not_installed(library: str) -> EbbtideError:
    return EbbtideError(
        "model.missing_library",
        f"{library} is not installed",
        place=f"model.{library}",
        hint="Install it with: pip install 'ebbtide[vision]'",
    )


def _unknown(library: str, name: str, known: list[str]) -> EbbtideError:
    close = nearest(name, known)
    return EbbtideError(
        "model.unknown_name",
        f"{library} has no model {name!r}",
        place=f"model.{library}",
        hint=f"Did you mean {close!r}?" if close else f"{library}.list_models() shows the names.",
    )


def _exported(path: Path, input_shape: tuple[int, ...], classes: int) -> Graph:
    if not path.is_file():
        raise EbbtideError(
            "recipe.missing_file",
            f"There is no exported program {path.name}",
            place=str(path),
            hint="Correct model.exported.",
        )
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise EbbtideError(
            "model.checkpoint_format",
            f"The exported program cannot be read: {type(error).__name__}: {first_line(error)}",
            place=str(path),
            hint="Write it with torch.export.save, by the torch version that is installed here.",
        ) from error
    return from_program(program, input_shape, classes=classes, place=str(path))
