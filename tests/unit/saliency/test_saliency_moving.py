from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from saliency_samples import layered, samples

from ebbtide.errors import EbbtideError
from ebbtide.model.training import Single, epoch_seed, fit
from ebbtide.recipe import TrainingSection
from ebbtide.saliency import Gathering


def settings(**more):
    return TrainingSection(**{"epochs": 3, "batch_size": 12, "learning_rate": 0.05, "device": "cpu", **more})


def gathered(graph, own, checkpoint=None):
    gathering = Gathering(Single(graph, own))
    fit(gathering, samples(48), samples(12, seed=1), settings=own, metric="accuracy", checkpoint=checkpoint)
    return gathering.statistics(batch_size=own.batch_size, samples=48, seed=own.seed)


def test_gathering_holds_the_gradients_of_the_last_epoch_alone():
    """The same steps by hand; without momentum and decay, SGD's step is the gradient."""
    own = settings(momentum=0.0, weight_decay=0.0)
    found = gathered(layered(), own)
    graph = layered()
    for epoch in range(3):
        torch.manual_seed(epoch_seed(own.seed, epoch))
        graph.train()
        signed, absolute = ({n: torch.zeros_like(p) for n, p in graph.module.named_parameters()} for _ in range(2))
        for step, (x, y) in enumerate(samples(48).batches(12, shuffle_seed=epoch_seed(own.seed, epoch))):
            rate = own.learning_rate * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (epoch + step / 4) / 3)).item())
            graph.module.zero_grad(set_to_none=True)
            F.cross_entropy(graph(x.contiguous(memory_format=torch.channels_last)), y).backward()
            with torch.no_grad():
                for name, parameter in graph.module.named_parameters():
                    signed[name] += parameter.grad
                    absolute[name] += parameter.grad.abs() / 4
                    parameter -= rate * parameter.grad
    assert found.batches == 4
    assert (found.norm, found.samples, found.batch_size) == ("train", 48, 12)
    for name in signed:
        torch.testing.assert_close(found.signed[name], signed[name], rtol=1e-2, atol=2e-4)
        torch.testing.assert_close(found.absolute[name], absolute[name], rtol=1e-2, atol=2e-4)


def test_gathering_trains_as_without_it():
    own = settings()
    graph, plain = layered(), layered()
    gathered(graph, own)
    fit(Single(plain, own), samples(48), samples(12, seed=1), settings=own, metric="accuracy")
    assert graph.digest() == plain.digest()


def test_gathering_is_whole_again_when_training_was_done_before(tmp_path):
    own = settings()
    file = tmp_path / "training.safetensors"
    before = gathered(layered(), own, file)
    again = gathered(layered(), own, file)
    assert again.batches == before.batches == 4
    for name, tensor in before.absolute.items():
        assert torch.equal(tensor, again.absolute[name])
        assert torch.equal(before.signed[name], again.signed[name])


def test_gathering_has_nothing_before_the_first_batch():
    with pytest.raises(EbbtideError) as caught:
        Gathering(Single(layered(), settings())).statistics(batch_size=12, samples=48, seed=0)
    assert caught.value.code == "saliency.too_few"
