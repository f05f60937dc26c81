"""Weights and models that cannot be used are refused by `ebb check` with the tensor, line or node that is wrong."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from faults_command import Command
from safetensors.torch import save_file

from ebbtide.recipe import code_entry

WEIGHTS = {"factory": "net.py:net", "weights": "weights.safetensors"}


def state_of(ebb: Command) -> dict[str, torch.Tensor]:
    return code_entry("net.py:net", ebb.net().parent).load()().state_dict()


def without(name: str) -> Callable[[dict], dict]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def with_entry(name: str, *shape: int, value: float = 0.0) -> Callable[[dict], dict]:
    return lambda state: {**state, name: torch.full(shape, value)}


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (without("fc.bias"), "model.checkpoint_missing", ["fc.bias"]),
        (with_entry("extra.weight", 3), "model.checkpoint_extra", ["extra.weight"]),
        (with_entry("fc.weight", 7, 4), "model.checkpoint_shape", ["fc.weight", "(7, 4)", "(3, 4)"]),
        (with_entry("fc.bias", 3, value=float("nan")), "model.checkpoint_nonfinite", ["fc.bias"]),
    ],
    ids=["missing", "extra", "misshapen", "nan"],
)
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_check_names_the_tensor_when_a_checkpoint_does_not_fit(
    ebb: Command, kind: str, change: Callable[[dict], dict], code: str, said: list[str]
) -> None:
    path = ebb.folder / f"weights.{kind}"
    state = change(state_of(ebb))
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    found = ebb.refused(ebb.recipe(model={**WEIGHTS, "weights": path.name}), code=code)
    assert str(path) in found.place
    assert all(word in found.text for word in said)


class Bomb:
    """A pickle of this writes a file when it is read."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return (open, (str(self.touched), "w"))


def plain_pickle(path: Path, content: Mapping) -> None:
    path.write_bytes(pickle.dumps(content))


def torch_zip(path: Path, content: Mapping) -> None:
    torch.save(content, path)
    with zipfile.ZipFile(path) as archive:
        assert any(name.endswith("data.pkl") for name in archive.namelist())


def torch_legacy(path: Path, content: Mapping) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [plain_pickle, torch_zip, torch_legacy])
@pytest.mark.parametrize("command", ["check", "build"])
def test_no_code_runs_when_a_checkpoint_carries_some(ebb: Command, write: Callable, command: str) -> None:
    touched, path = ebb.folder / "touched", ebb.folder / "weights.pt"
    write(path, {**state_of(ebb), "bomb": Bomb(touched)})
    recipe = ebb.recipe(model={**WEIGHTS, "weights": "weights.pt"})
    found = ebb.refused(recipe, code="model.unsafe_checkpoint", command=command)
    assert not touched.exists()
    assert str(path) in found.place
    assert "safetensors" in found.hint
    assert "weights_only" not in found.text
    # The bomb is real: whoever unpickles it does run it.
    pickle.loads(pickle.dumps(Bomb(touched))).close()
    assert touched.exists()


@pytest.mark.parametrize("content", [b"", b"no tensors here", b"\x80\x04K\x01."])
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_check_is_refused_when_a_weights_file_is_damaged(ebb: Command, kind: str, content: bytes) -> None:
    path = ebb.folder / f"weights.{kind}"
    path.write_bytes(content)
    recipe = ebb.recipe(model={**WEIGHTS, "weights": path.name})
    assert str(path) in ebb.refused(recipe, code="model.checkpoint_format").place


BRANCH = """

class Branch(Net):
    def forward(self, x):
        y = super().forward(x)
        if y.sum() > 0:
            return y
        return -y


def odd():
    return Branch()
"""
TWO_OUTPUTS = """

class Auxiliary(Net):
    def forward(self, x):
        features = self.features(x)
        return self.fc(features), features


def odd():
    return Auxiliary()
"""
RECURRENT = """

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory = nn.{cell}(4, 3, batch_first=True)

    def forward(self, x):
        return self.memory(x.squeeze(1))[0][:, -1]


def odd():
    return Recurrent()
"""
VALUE_SHAPE = """

class Selecting(Net):
    def forward(self, x):
        y = super().forward(x)
        return y + torch.nonzero(y).float().mean()


def odd():
    return Selecting()
"""
OTHER_SIZE = """

class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8 * 8, 3)

    def forward(self, x):
        return self.fc(x.flatten(1))


def odd():
    return Fixed()
"""
FIXED_BATCH = """

class OneBatch(Net):
    def forward(self, x):
        return super().forward(x.reshape(2, 1, 4, 4))


def odd():
    return OneBatch()
"""
FAILING = """

def odd():
    raise RuntimeError("the disk with the weights is not mounted")
"""


@pytest.mark.parametrize(
    ("extra", "code", "place", "hint"),
    [
        (BRANCH, "model.data_dependent", "net.py:", "torch.where"),
        (TWO_OUTPUTS, "model.outputs", "net.py:odd", "logits"),
        *(
            (RECURRENT.replace("{cell}", cell), "model.recurrent", "memory", "Conv1d")
            for cell in ("LSTM", "GRU", "RNN")
        ),
        (VALUE_SHAPE, "model.dynamic_shape", "net.py:", "mask"),
        (OTHER_SIZE, "model.forward", "net.py:", "data.input.size"),
        (FIXED_BATCH, "model.batch", "net.py:", "batch"),
        (FAILING, "recipe.code_error", "net.py:", "Correct"),
    ],
    ids=["branch", "outputs", "LSTM", "GRU", "RNN", "value-shape", "other-size", "fixed-batch", "failing-factory"],
)
def test_check_names_the_line_when_a_model_cannot_be_a_graph(
    ebb: Command, extra: str, code: str, place: str, hint: str
) -> None:
    ebb.net(extra)
    found = ebb.refused(ebb.recipe(model={"factory": "net.py:odd"}), code=code)
    assert place in found.place
    assert hint in found.hint


def exported(ebb: Command, path: Path, *, batch: bool = True, height: bool = False) -> Path:
    model = code_entry("net.py:net", ebb.net().parent).load()().eval()
    free = {0: torch.export.Dim("batch", min=1)} if batch else {}
    if height:
        free[2] = torch.export.Dim("height", min=2, max=64)
    torch.export.save(torch.export.export(model, (torch.zeros(5, 1, 4, 4),), dynamic_shapes=(free,)), path)
    return path


@pytest.mark.parametrize(
    ("options", "code"), [({"batch": False}, "model.batch"), ({"height": True}, "model.dynamic_shape")]
)
def test_check_is_refused_when_an_exported_program_has_other_free_dimensions_than_the_batch(
    ebb: Command, options: dict, code: str
) -> None:
    path = exported(ebb, ebb.folder / "net.pt2", **options)
    found = ebb.refused(ebb.recipe(model={"exported": "net.pt2"}, training=None), code=code)
    assert str(path) in found.place


def test_check_is_refused_when_an_exported_program_was_made_for_another_input_size(ebb: Command) -> None:
    path = exported(ebb, ebb.folder / "net.pt2")
    data = {"npz": "data.npz", "input": {"size": 6}}
    found = ebb.refused(ebb.recipe(model={"exported": "net.pt2"}, training=None, data=data), code="model.forward")
    assert str(path) in found.place
    assert "data.input.size" in found.hint


def test_build_leaves_the_output_empty_when_the_model_is_wrong(ebb: Command) -> None:
    ebb.net(TWO_OUTPUTS)
    ebb.refused(ebb.recipe(model={"factory": "net.py:odd"}), code="model.outputs", command="build")
