"""Weights files: reading them without running anything in them, and fitting them to a model."""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from ebbtide.errors import EbbtideError

_NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "network.")
_SHOWN = 8
_COUNTER = "num_batches_tracked"


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The tensors of a weights file by name, on the CPU, and notes on how they were found.

    Args:
        path: .safetensors, .pt or .pth (tensors only), or .npz.

    Raises:
        EbbtideError: ``recipe.missing_file``, ``model.unsafe_checkpoint`` or ``model.checkpoint_format``.
    """
    if not path.is_file():
        raise EbbtideError(
            "recipe.missing_file",
            f"There is no weights file {path.name}",
            place=str(path),
            hint="Correct model.weights.",
        )
    read = {".safetensors": _safetensors, ".pt": _pickled, ".pth": _pickled, ".npz": _npz}.get(path.suffix.lower())
    if read is None:
        raise EbbtideError(
            "model.checkpoint_format",
            f"A weights file cannot be of type {path.suffix or '(none)'}",
            expected=".safetensors, .pt, .pth or .npz",
            place=str(path),
            hint="Save it with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors').",
        )
    try:
        content = read(path)
    except EbbtideError:
        raise
    except Exception as error:
        raise EbbtideError(
            "model.checkpoint_format",
            f"The weights file cannot be read: {type(error).__name__}",
            place=str(path),
            found=str(error).splitlines()[0] if str(error) else None,
            hint="It is damaged or of another type than its name says; copy or save it again.",
        ) from error
    return _unwrap(content, path)


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _npz(path: Path) -> Any:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}


def _pickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _is_pickle(path):
            raise ValueError("neither an archive of torch's nor a pickle") from error
        _refuse(path, str(error))
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise
        _refuse(path, "a TorchScript program")


def _is_pickle(path: Path) -> bool:
    """Whether the file is a zip of torch's or begins as a pickle; looked at, never run."""
    if zipfile.is_zipfile(path):
        return True
    try:
        with path.open("rb") as stream:
            for _ in pickletools.genops(stream):
                pass
    except (ValueError, EOFError):
        return False
    return True


def _refuse(path: Path, found: str) -> NoReturn:
    # Around the reason torch tells how to run the file after all.
    reason = re.search(r"WeightsUnpickler error:\s*(.+?)(?:\.\s|\n|$)", found)
    raise EbbtideError(
        "model.unsafe_checkpoint",
        "The checkpoint carries code or objects, not only tensors; it was not loaded",
        expected="a state dict of tensors",
        found=reason[1] if reason else found.splitlines()[0][:300],
        place=str(path),
        hint="Where you trust the file, load it yourself once and save model.state_dict() as .safetensors.",
    )


def _unwrap(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    notes = []
    while isinstance(content, Mapping) and not _is_state(content):
        key = next((key for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        notes.append(f"{path.name}: the weights were taken from its entry {key!r}.")
        content = content[key]
    if not isinstance(content, Mapping) or not _is_state(content):
        found = ", ".join(map(str, list(content)[:_SHOWN])) if isinstance(content, Mapping) else type(content).__name__
        raise EbbtideError(
            "model.checkpoint_format",
            "The file holds no state dict",
            expected="names and tensors, or an entry state_dict with them",
            found=found or "nothing",
            place=str(path),
            hint="Save model.state_dict().",
        )
    return dict(content), tuple(notes)


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())


def fit_names(state: Mapping[str, torch.Tensor], known: set[str]) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The state without a prefix that all its names share and the model's do not (``module.`` and its like).

    Returns:
        The state with the names that fit best, and a note where names were changed.
    """
    best: dict[str, torch.Tensor] = dict(state)
    note: tuple[str, ...] = ()
    current, stripped = dict(state), ""
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in current)), None):
        current = {name.removeprefix(prefix): tensor for name, tensor in current.items()}
        stripped += prefix
        if len(known & set(current)) > len(known & set(best)):
            best, note = current, (f"The prefix {stripped!r} was taken off the checkpoint's names.",)
    return best, note


def fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, place: str) -> tuple[str, ...]:
    """Copy a state into a module's parameters and buffers, all or nothing.

    Args:
        module: what is filled; its tensors keep their dtype, device and memory order.
        state: exactly its names; counters of batch norm may be absent.
        place: what to call the state in errors.

    Returns:
        Notes on what was changed (prefixes, dtypes).

    Raises:
        EbbtideError: ``model.checkpoint_shape``, ``_missing``, ``_extra`` or ``_nonfinite`` with the names; the
            details list all three kinds.
    """
    own = module.state_dict()
    state, notes = fit_names(state, set(own))
    _compare(own, state, place)
    converted = sorted(name for name in own if name in state and state[name].dtype != own[name].dtype)
    if converted:
        kinds = ", ".join(sorted({str(state[name].dtype).removeprefix("torch.") for name in converted}))
        notes = (*notes, f"{len(converted)} tensors of the checkpoint were converted from {kinds}.")
    broken = [n for n, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise EbbtideError(
            "model.checkpoint_nonfinite",
            f"The checkpoint has NaN or infinite values in {_listed(broken)}",
            place=place,
            hint="Its training diverged or the file is damaged; use an earlier checkpoint.",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            if name in state:
                tensor.copy_(state[name])
    return notes


def _compare(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], place: str) -> None:
    misshapen = [name for name in own if name in state and own[name].shape != state[name].shape]
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    extra = [name for name in state if name not in own]
    details = {"misshapen": misshapen, "missing": missing, "extra": extra}
    if misshapen:
        name = misshapen[0]
        raise EbbtideError(
            "model.checkpoint_shape",
            f"The checkpoint has tensors of another shape: {_listed(misshapen)}",
            expected=f"{name} {tuple(own[name].shape)}, as in the model",
            found=f"{name} {tuple(state[name].shape)}",
            place=place,
            hint="Give the model the arguments it was trained with (model.arguments), and the data all its classes.",
            details=details,
        )
    if missing:
        raise EbbtideError(
            "model.checkpoint_missing",
            f"The checkpoint lacks {len(missing)} of the model's {len(own)} tensors: {_listed(missing)}",
            found=f"and {len(extra)} that the model does not have: {_listed(extra)}" if extra else None,
            place=place,
            hint="It belongs to another model or to a part of this one; check the name and model.arguments.",
            details=details,
        )
    if extra:
        raise EbbtideError(
            "model.checkpoint_extra",
            f"The checkpoint has {len(extra)} tensors that the model does not have: {_listed(extra)}",
            place=place,
            hint="It belongs to a larger model, or holds more than a state dict; check model.arguments.",
            details=details,
        )


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
