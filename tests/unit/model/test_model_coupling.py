"""Coupling groups: found as by hand, permuted without a change, narrowed to what a masked whole network computes."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from coupling_samples import COUPLED, Picked
from model_samples import SHAPES, lively
from test_model_families import FAMILIES, make
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, cost, coupling_groups, narrow, permute, slice_state
from ebbtide.model.coupling import macs_by_node, parameters_of, peak_bytes_by_node

CASES = {
    **{name: (make_it, shape, None) for name, (make_it, shape) in SHAPES.items()},
    **{name: (lambda module=module: module, (3, 8, 8), sizes) for name, (module, sizes) in COUPLED.items()},
}
# Layer and group norms divide by statistics over the channels that are there, so masking is not removing.
STATISTICS_OVER_CHANNELS = {"vit", "mixer", "scaled"}


@functools.cache
def case(name):
    make_it, shape, sizes = CASES[name]
    graph = capture(lively(make_it()).eval(), shape)
    return graph, torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)), sizes


def some_widths(coupling, seed):
    random = np.random.default_rng(seed)
    return {group.name: int(random.integers(1, group.size + 1)) for group in coupling.groups}


@pytest.mark.parametrize("name", COUPLED)
def test_groups_have_the_units_counted_by_hand(name):
    graph, _, sizes = case(name)
    assert {group.name: group.size for group in coupling_groups(graph).groups} == sizes


@pytest.mark.parametrize("name", CASES)
def test_function_stays_when_groups_are_permuted(name):
    graph, x, _ = case(name)
    coupling = coupling_groups(graph)
    moved = graph.copy()
    permute(moved, coupling, {g.name: np.random.default_rng(5).permutation(g.size) for g in coupling.groups})
    with torch.no_grad():
        torch.testing.assert_close(moved(x), graph(x), rtol=1e-5, atol=1e-5)
    assert any(not torch.equal(a, b) for a, b in zip(moved.state().values(), graph.state().values(), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_counts_equal_those_of_the_narrowed_graph(name):
    graph, x, _ = case(name)
    coupling = coupling_groups(graph)
    for seed in range(3):
        widths = some_widths(coupling, seed)
        small = narrow(graph, coupling, widths)
        assert small(x).shape == graph(x).shape
        found = cost(small.module, small.input_shape)
        assert sum(one.macs.at(coupling, widths) for one in macs_by_node(graph, coupling)) == found.macs
        assert max(p.at(coupling, widths) for _, p in peak_bytes_by_node(graph, coupling)) == found.peak_bytes
        assert parameters_of(graph, coupling).at(coupling, widths) == found.parameters


@pytest.mark.parametrize("name", sorted(set(CASES) - STATISTICS_OVER_CHANNELS))
def test_narrowed_graph_equals_whole_one_with_removed_units_unread(name):
    graph, x, _ = case(name)
    coupling = coupling_groups(graph)
    widths = some_widths(coupling, 11)
    masked = graph.copy()
    with torch.no_grad():
        for group in coupling.groups:
            for member in group.members:
                if member.kind == "in":
                    gone = torch.from_numpy(member.positions[widths[group.name] :].reshape(-1))
                    masked.state()[member.tensor].index_fill_(member.axis, gone, 0.0)
        expected = masked(x)
        if name == "plain_attention":
            # A head that is gone is one whose values are not read; the products of the others do not change.
            assert coupling.group("qkv").channels == 36
        torch.testing.assert_close(narrow(graph, coupling, widths)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_slices_are_the_narrowed_graphs_own_tensors(name):
    graph, _, _ = case(name)
    coupling = coupling_groups(graph)
    widths = some_widths(coupling, 3)
    slices = slice_state(coupling, graph.state(), widths)
    for tensor, own in narrow(graph, coupling, widths).state().items():
        assert torch.equal(own, slices[tensor])
        assert own.is_contiguous()
        assert own.untyped_storage().nbytes() == own.numel() * own.element_size()


def test_prefix_slices_share_storage_and_pass_gradients():
    graph = case("dscnn")[0].copy()
    coupling = coupling_groups(graph)
    parameters = dict(graph.module.named_parameters())
    widths = {group.name: group.size // 2 for group in coupling.groups}
    slices = slice_state(coupling, parameters, widths)
    assert all(slices[name].data_ptr() == whole.data_ptr() for name, whole in parameters.items())
    sum(tensor.sum() for tensor in slices.values()).backward()
    assert float(parameters["2.0.weight"].grad.sum()) == 8 * 8


def test_groups_hold_for_copies_of_the_graph():
    graph, x, _ = case("shuffled")
    coupling = coupling_groups(graph)
    widths = some_widths(coupling, 2)
    twin = graph.copy()
    with torch.no_grad():
        assert torch.equal(narrow(twin, coupling, widths)(x), narrow(graph, coupling, widths)(x))
    macs = [one.macs.at(coupling, widths) for one in macs_by_node(twin, coupling)]
    assert macs == [one.macs.at(coupling, widths) for one in macs_by_node(graph, coupling)]


def test_full_widths_leave_the_graph_as_it_is():
    graph, x, _ = case("padded")
    coupling = coupling_groups(graph)
    same = narrow(graph, coupling, {group.name: group.size for group in coupling.groups})
    with torch.no_grad():
        assert torch.equal(same(x), graph(x))


def test_what_stays_whole_is_listed_with_its_reason():
    graph = capture(lively(Picked()).eval(), (3, 8, 8))
    coupling = coupling_groups(graph)
    reasons = {one.subject: one.reason for one in coupling.whole}
    assert "classes" in reasons["fc"]
    assert set(reasons) == {"a.0", "b.0", "fc"}
    assert not coupling.groups


def test_unknown_operator_freezes_what_it_reads_and_names_the_node():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 4)

        def forward(self, x):
            return self.b(torch.cumsum(self.a(x.flatten(1)), 1))

    coupling = coupling_groups(capture(Odd(), (2, 4)))
    assert not coupling.groups
    (reason,) = [one.reason for one in coupling.whole if one.subject == "a"]
    assert "cumsum" in reason


@pytest.mark.parametrize(("name", "width"), [("stem.0", 0), ("stem.0", 9), ("no.such", 1)])
def test_narrow_refuses_a_width_that_cannot_be(name, width):
    graph, _, _ = case("resnet")
    with pytest.raises(EbbtideError) as refused:
        narrow(graph, coupling_groups(graph), {name: width})
    assert refused.value.code == "model.width"


def test_permute_refuses_an_order_that_repeats_a_unit():
    graph, _, _ = case("resnet")
    with pytest.raises(EbbtideError) as refused:
        permute(graph, coupling_groups(graph), {"stem.0": np.zeros(8, np.int64)})
    assert refused.value.code == "model.order"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_family_keeps_its_function_when_permuted_and_narrows_to_what_was_counted(name):
    torch.manual_seed(0)
    graph, shape = capture(lively(make(name)).eval(), (3, 64, 64), classes=10), (3, 64, 64)
    coupling = coupling_groups(graph)
    assert coupling.groups
    moved = graph.copy()
    permute(moved, coupling, {g.name: np.random.default_rng(5).permutation(g.size) for g in coupling.groups})
    x = torch.randn(2, *shape)
    with torch.no_grad():
        before = graph(x)
        scale = max(1.0, float(before.abs().max()))
        torch.testing.assert_close(moved(x) / scale, before / scale, rtol=1e-5, atol=1e-5)
    widths = some_widths(coupling, 0)
    small = narrow(graph, coupling, widths)
    assert small(x).shape == before.shape
    assert sum(one.macs.at(coupling, widths) for one in macs_by_node(graph, coupling)) == cost(small.module, shape).macs
