"""What cannot be a graph, or has the wrong weights, is refused with its code, place and a way out."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from model_samples import SmallResNet, TinyViT, lively
from safetensors.torch import save_file
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, input_defaults, load_model
from ebbtide.model.canonical import canonicalise
from ebbtide.recipe import ModelSection

SHAPE = (3, 16, 16)


class Flat(nn.Module):
    """A classifier whose logits are made by `rule`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 256, 10)

    def forward(self, x):
        return self.rule(x, self.fc(x.flatten(1)))


def model_of(rule):
    return type("Model", (Flat,), {"rule": staticmethod(rule)})()


def branch(x, y):
    if x.sum() > 0:
        return y
    return -y


def selecting(x, y):
    return y + y[y > 0].sum() * 0 + torch.nonzero(y).float().mean()


class Recurrent(nn.Module):
    def __init__(self, cell=nn.LSTM) -> None:
        super().__init__()
        self.memory = cell(48, 10, batch_first=True)

    def forward(self, x):
        return self.memory(x.flatten(1, 2).transpose(1, 2))[0][:, -1]


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x


class Changing(Flat):
    def forward(self, x):
        y = self.fc(x.flatten(1))
        part = y[:, :5]
        part.mul_(2)
        return y


def through_numpy(x, y):
    return y + torch.from_numpy(x.numpy()).sum()


def conditional(x, y):
    return torch.cond(x.sum() > 0, lambda z: z + 1, lambda z: z - 1, (y,))


CASES = {
    "numpy": (lambda: model_of(through_numpy), "model.export", "test_model_refusals.py"),
    "cond": (lambda: model_of(conditional), "model.data_dependent", "node cond"),
    "branch": (lambda: model_of(branch), "model.data_dependent", "test_model_refusals.py"),
    "item": (lambda: model_of(lambda x, y: y * x.max().item()), "model.data_dependent", "test_model_refusals.py"),
    "nonzero": (lambda: model_of(selecting), "model.dynamic_shape", "node "),
    "two outputs": (lambda: model_of(lambda x, y: (y, y)), "model.outputs", None),
    "feature map": (lambda: nn.Conv2d(3, 10, 3), "model.not_classifier", None),
    "classes": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 9)), "model.classes", None),
    "lstm": (Recurrent, "model.recurrent", "memory"),
    "gru": (lambda: Recurrent(nn.GRU), "model.recurrent", "memory"),
    "rnn": (lambda: Recurrent(nn.RNN), "model.recurrent", "memory"),
    "two inputs": (TwoInputs, "model.inputs", None),
    "fixed batch": (lambda: model_of(lambda x, y: y.reshape(2, 10)), "model.batch", None),
    "half": (lambda: Flat().half(), "model.dtype", None),
    "wrong size": (TinyViT, "model.forward", "model_samples.py"),
    "in place": (Changing, "model.buffer_change", "node mul_"),
}


@pytest.mark.parametrize("case", CASES)
def test_capture_refuses_with_place_and_hint_when_model_cannot_be_a_graph(case):
    make, code, place = CASES[case]
    with pytest.raises(EbbtideError) as caught:
        capture(make(), SHAPE, classes=10)
    assert caught.value.code == code, str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_status == 2
    if place is not None:
        assert place in (caught.value.place or ""), str(caught.value)


FACTORY = """
import sys
sys.path.insert(0, {tests!r})
from model_samples import SmallResNet
def make(classes=10):
    return SmallResNet(classes)
def nothing():
    return 3
"""


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(FACTORY.format(tests=str(Path(__file__).parent)))
    return str(path)


def load(section, *, allow_code=True, classes=10, shape=SHAPE):
    return load_model(section, input_shape=shape, universal_classes=classes, allow_code=allow_code)


def section(factory, weights=None, **more):
    return ModelSection(factory=f"{factory}:make", weights=weights, trained=weights is None, **more)


@pytest.mark.parametrize("form", ["safetensors", "pt", "nested.pth", "prefix.pt", "npz", "half.pt"])
def test_load_model_fills_weights_when_checkpoint_has_any_usual_form(factory, tmp_path, form):
    state = lively(SmallResNet(), seed=5).state_dict()
    path = tmp_path / f"weights.{form}"
    if form == "safetensors":
        save_file(state, path)
    elif form == "npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    elif form == "nested.pth":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif form == "prefix.pt":
        torch.save({f"module._orig_mod.{name}": tensor for name, tensor in state.items()}, path)
    else:
        half = form == "half.pt"
        torch.save({n: t.half() if half and t.is_floating_point() else t for n, t in state.items()}, path)
    graph = load(section(factory, path))
    for name, tensor in state.items():
        torch.testing.assert_close(graph.state()[name], tensor, rtol=1e-3, atol=1e-3)
    said = {"nested.pth": "state_dict", "prefix.pt": "module._orig_mod.", "half.pt": "float16"}.get(form)
    assert (not graph.notes) if said is None else said in " ".join(graph.notes)


def broken(state, how):
    if how == "missing":
        del state["fc.weight"]
    elif how == "extra":
        state["fc2.weight"] = torch.zeros(3)
    elif how == "shape":
        state["fc.weight"] = torch.zeros(7, 32)
    elif how == "nonfinite":
        state["fc.weight"][0, 0] = float("nan")
    return state


@pytest.mark.parametrize("how", ["missing", "extra", "shape", "nonfinite"])
def test_load_model_names_the_tensors_when_checkpoint_does_not_fit(factory, tmp_path, how):
    path = tmp_path / "weights.safetensors"
    save_file(broken(SmallResNet().state_dict(), how), path)
    with pytest.raises(EbbtideError) as caught:
        load(section(factory, path))
    assert caught.value.code == f"model.checkpoint_{how}"
    assert ("fc2.weight" if how == "extra" else "fc.weight") in caught.value.message
    assert caught.value.place == str(path)
    assert caught.value.hint


class Bomb:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('bomb').write_text('x')",))


@pytest.mark.parametrize("kind", ["torch", "plain", "module"])
def test_load_model_refuses_and_runs_nothing_when_checkpoint_carries_code(factory, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    if kind == "torch":
        torch.save({"state_dict": Bomb()}, path)
    elif kind == "plain":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save(nn.Linear(2, 2), path)
    with pytest.raises(EbbtideError) as caught:
        load(section(factory, path))
    assert caught.value.code == "model.unsafe_checkpoint"
    assert not (tmp_path / "bomb").exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors", "weights.npz", "weights.onnx"])
def test_load_model_refuses_when_weights_file_is_damaged_or_unknown(factory, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(EbbtideError) as caught:
        load(section(factory, path))
    assert caught.value.code == "model.checkpoint_format"


def test_load_model_refuses_when_weights_file_is_missing(factory, tmp_path):
    with pytest.raises(EbbtideError) as caught:
        load(section(factory, tmp_path / "none.pt"))
    assert caught.value.code == "recipe.missing_file"


def test_load_model_refuses_when_code_is_not_allowed(factory, tmp_path):
    for chosen in (section(factory), ModelSection(exported=tmp_path / "m.pt2")):
        with pytest.raises(EbbtideError) as caught:
            load(chosen, allow_code=False)
        assert caught.value.code == "recipe.no_code"


@pytest.mark.parametrize(
    ("keys", "code", "hint"),
    [
        ({"timm": "resnet81"}, "model.unknown_name", "resnet"),
        ({"torchvision": "resnet81"}, "model.unknown_name", "resnet"),
        ({"torchvision": "resnet18", "arguments": {"weights": "DEFAULT"}}, "model.arguments", "model.weights"),
        ({"torchvision": "resnet18", "arguments": {"colour": 3}}, "model.arguments", "model.arguments"),
    ],
)
def test_load_model_refuses_when_name_or_arguments_are_wrong(keys, code, hint):
    with pytest.raises(EbbtideError) as caught:
        load(ModelSection(**keys))
    assert caught.value.code == code
    assert hint in caught.value.hint


def test_load_model_refuses_when_factory_returns_no_module(factory):
    with pytest.raises(EbbtideError) as caught:
        load(ModelSection(factory=f"{factory}:nothing", trained=True))
    assert caught.value.code == "model.arguments"


@pytest.mark.parametrize(("library", "missing"), [("timm", "timm"), ("torchvision", "torchvision")])
def test_load_model_says_what_to_install_when_library_is_missing(monkeypatch, library, missing):
    import sys

    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(EbbtideError) as caught:
        load(ModelSection(**{library: "resnet18"}))
    assert caught.value.code == "model.missing_library"
    assert "pip install" in caught.value.hint


def test_load_model_equals_source_when_program_is_exported(tmp_path):
    module = lively(SmallResNet())
    for mode in (module.eval, module.train):
        mode()
        batch = torch.export.Dim("batch")
        program = torch.export.export(module, (torch.zeros(4, *SHAPE),), dynamic_shapes=({0: batch},))
        torch.export.save(program, tmp_path / "m.pt2")
        graph = load(ModelSection(exported=tmp_path / "m.pt2"))
        x = torch.randn(3, *SHAPE)
        with torch.no_grad():
            assert torch.equal(graph(x), module.eval()(x))


@pytest.mark.parametrize("how", ["static", "spatial", "size", "damaged"])
def test_load_model_refuses_when_exported_program_has_other_shapes(tmp_path, how):
    path = tmp_path / "m.pt2"
    batch, free = torch.export.Dim("batch"), torch.export.Dim("h", min=8, max=64)
    sizes = {"static": None, "spatial": ({0: batch, 2: free},), "size": ({0: batch},), "damaged": None}[how]
    shape = (3, 24, 24) if how == "size" else SHAPE
    torch.export.save(torch.export.export(SmallResNet().eval(), (torch.zeros(4, *shape),), dynamic_shapes=sizes), path)
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(EbbtideError) as caught:
        load(ModelSection(exported=path))
    codes = {
        "static": "model.batch", "spatial": "model.dynamic_shape", "size": "model.forward",
        "damaged": "model.checkpoint_format",
    }  # fmt: skip
    assert caught.value.code == codes[how]
    assert caught.value.hint


def test_input_defaults_are_the_authors_when_model_is_named():
    found = input_defaults(ModelSection(timm="mobilenetv3_small_100"))
    assert (found.size, found.color) == ((224, 224), "RGB")
    assert found.mean == pytest.approx((0.485, 0.456, 0.406))
    assert input_defaults(ModelSection(torchvision="resnet18")).std == pytest.approx((0.229, 0.224, 0.225))
    assert input_defaults(ModelSection(timm="vit_tiny_patch16_224", arguments={"img_size": 64})).size == (64, 64)
    assert input_defaults(ModelSection(factory="a.py:b", trained=True)) is None


def test_canonicalise_refuses_when_graph_calls_no_operator():
    module = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(EbbtideError) as caught:
        canonicalise(module)
    assert caught.value.code == "model.unsupported_node"
    assert caught.value.place.startswith("node _0")
