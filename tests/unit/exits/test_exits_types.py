from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.exits import Classifier, Place, build_exit, exit_macs, exit_type, exit_types
from ebbtide.exits.folding import fold_standardisation
from ebbtide.exits.layers import hidden_width, perceptron
from ebbtide.exits.pools import GridPool, MeanPool, TokenPool
from ebbtide.exits.protocol import Exit

POOLED = Classifier(channels=64, places=64, pools=True, hidden=())


def place(
    *shape: int, axis: int = 1, classes: int = 10, lead: int = 0, classifier: Classifier | None = POOLED
) -> Place:
    return Place(shape, axis, classes, lead, classifier)


@pytest.mark.parametrize(
    ("kind", "classes", "expected"),
    [("pool-linear", 1000, 40_000), ("pool-mlp", 1000, 770_000), ("pool-mlp-deep", 1000, 500 * 40 + 1_250_000)],
)
def test_macs_are_those_of_the_published_exits_at_a_thousand_classes(kind: str, classes: int, expected: int) -> None:
    at = place(40, 7, 7, classes=classes)
    assert exit_macs(build_exit(kind, at), at) == expected


@pytest.mark.parametrize(
    ("sizes", "published"),
    [([40, 1000, 1000, 1000], 1000 * 40 + 2_000_000), ([40, 1000, 1000, 1000, 1000, 1000], 1000 * 40 + 4_000_000)],
)
def test_macs_of_a_perceptron_follow_the_published_formulas(sizes: list[int], published: int) -> None:
    at = place(40, 7, 7, classes=1000)
    assert exit_macs(Exit(MeanPool(40, 1), perceptron(sizes)), at) == published


def test_hidden_width_follows_the_number_of_classes() -> None:
    assert [hidden_width(classes) for classes in (2, 10, 128, 200, 1000)] == [64, 64, 64, 100, 500]
    at = place(16, 8, 8)
    assert exit_macs(build_exit("pool-mlp", at), at) == 16 * 64 + 64 * 64 + 64 * 10


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 6, 4, 4), 1), ((2, 4, 4, 6), 3), ((2, 9, 6), 2), ((2, 6, 9), 1), ((2, 6), 1)]
)
def test_mean_pool_means_over_all_but_channels(shape: tuple[int, ...], axis: int) -> None:
    module = build_exit("pool-linear", place(*shape[1:], axis=axis, classes=3))
    value = torch.randn(shape)
    others = [a for a in range(1, len(shape)) if a != axis]
    expected = value.mean(others) if others else value
    assert torch.allclose(module.pool(value), expected, atol=1e-6)
    assert module(value).shape == (2, 3)


def test_conv_branch_copies_the_classifier_with_a_quarter_of_its_width() -> None:
    own = Classifier(channels=64, places=16, pools=True, hidden=(256, 32))
    at = place(16, 32, 32, classifier=own)
    module = build_exit("conv-branch", at)
    assert isinstance(module.pool, GridPool)
    assert module.pool(torch.zeros(1, 16, 32, 32)).shape == (1, 16, 4, 4)
    convolutions = [layer for layer in module.classify if isinstance(layer, nn.Conv2d)]
    linears = [layer for layer in module.classify if isinstance(layer, nn.Linear)]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions] == [(16, 64, (3, 3))]
    assert [layer.out_features for layer in linears] == [64, 16, 10]
    assert exit_macs(module, at) == 16 * 9 * 64 * (2 * 2) + 64 * 64 + 64 * 16 + 16 * 10


@pytest.mark.parametrize(("channels", "outputs"), [(64, 64), (320, 80), (2048, 512)])
def test_conv_branch_has_a_quarter_of_the_classifiers_channels(channels: int, outputs: int) -> None:
    module = build_exit("conv-branch", place(32, 8, 8, classifier=Classifier(channels, 16, pools=True, hidden=())))
    assert module.classify[0].out_channels == outputs


def test_conv_branch_keeps_its_places_where_the_classifier_flattens() -> None:
    own = Classifier(channels=8, places=16, pools=False, hidden=(40,))
    module = build_exit("conv-branch", place(8, 16, 20, classifier=own))
    linears = [layer for layer in module.classify if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(64 * 2 * 3, 16), (16, 10)]
    assert module(torch.zeros(2, 8, 16, 20)).shape == (2, 10)


@pytest.mark.parametrize(
    ("side", "window", "left"), [(2, 1, 2), (4, 1, 4), (7, 2, 3), (8, 2, 4), (14, 4, 3), (32, 8, 4), (56, 14, 4)]
)
def test_conv_branch_works_on_at_most_four_places_a_side(side: int, window: int, left: int) -> None:
    module = build_exit("conv-branch", place(8, side, side))
    assert module.pool.name == f"grid{window}"
    assert module.pool(torch.zeros(1, 8, side, side)).shape == (1, 8, left, left)
    assert module(torch.zeros(1, 8, side, side)).shape == (1, 10)


def test_token_pool_takes_the_class_token_and_the_mean_of_the_inputs_tokens() -> None:
    module = build_exit("token-pool", place(7, 5, axis=2, lead=2))
    tokens = torch.randn(3, 7, 5)
    assert isinstance(module.pool, TokenPool)
    assert torch.allclose(module.pool(tokens), torch.cat([tokens[:, 0], tokens[:, 2:].mean(1)], 1))
    assert exit_macs(module, place(7, 5, axis=2, lead=2)) == 2 * 5 * 10


@pytest.mark.parametrize(
    ("kind", "at", "word"),
    [
        ("token-pool", place(7, 5, axis=2), "class token"),
        ("conv-branch", place(7, 5, axis=2), "height"),
        ("conv-branch", place(5, 1, 1), "single place"),
        ("conv-branch", place(5, 4, 4, classifier=None), "classifier"),
        ("conv-branch", place(4, 4, 5, axis=3), "channels"),
    ],
)
def test_exit_type_says_why_it_cannot_stand_somewhere(kind: str, at: Place, word: str) -> None:
    with pytest.raises(EbbtideError, match=word) as caught:
        build_exit(kind, at)
    assert caught.value.code == "exits.unfit"


def test_exit_type_names_the_nearest_when_unknown() -> None:
    assert set(exit_types()) == {"conv-branch", "pool-linear", "pool-mlp", "pool-mlp-deep", "token-pool"}
    with pytest.raises(EbbtideError, match="pool-linear") as caught:
        exit_type("pool-liner")
    assert caught.value.code == "exits.unknown_type"


@pytest.mark.parametrize(
    "first",
    [
        nn.Linear(6, 4),
        nn.Conv2d(6, 4, 3),
        nn.Conv2d(6, 12, 2, groups=6),
        nn.Conv2d(6, 4, 3, groups=2),
    ],
)
def test_folded_layer_gives_on_features_what_it_gave_on_standardised_ones(first: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    mean, scale = torch.randn(6, generator=generator), torch.rand(6, generator=generator) + 0.5
    x = torch.randn(5, 6, *[4] * (isinstance(first, nn.Conv2d) * 2), generator=generator)
    shape = (1, 6, *[1] * (x.dim() - 2))
    with torch.no_grad():
        expected = first((x - mean.view(shape)) / scale.view(shape))
        fold_standardisation(nn.Sequential(first, nn.ReLU()), mean, scale)
        np.testing.assert_allclose(first(x), expected, atol=2e-6)


def test_layer_that_cannot_take_the_standardisation_is_refused() -> None:
    for first in (nn.Conv2d(6, 6, 3, padding=1), nn.LayerNorm(6), nn.Linear(6, 2, bias=False)):
        with pytest.raises(EbbtideError) as caught:
            fold_standardisation(nn.Sequential(first), torch.zeros(6), torch.ones(6))
        assert caught.value.code == "exits.features"
