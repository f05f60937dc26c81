"""From a graph to its levels: allowed widths, true and published costs, memory, nesting, and levels taken out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, cost, coupling_groups
from ebbtide.model.coupling import macs_by_node
from ebbtide.nesting import Nested, Rules, choose_levels, dense_input, extract, order_units, problem_of

TESTS = Path(__file__).resolve().parents[1]
ADAPTERS = TESTS.parents[1] / "pipeline" / "benchmarks" / "adapters"

# Widths of the published figure; nominal and true share of MACs in %, slack in MACs of the searched layers' cost
# (arXiv 2311.13349; the bars of the CNN are indices, so one more unit is kept).
PUBLISHED = {
    "dnn_s": [((15, 75, 33), "24.91", 66, "9.8"), ((51, 116, 63), "49.73", 210, "33.8"),
              ((99, 132, 99), "74.88", 90, "65.8")],
    "dnn_l": [((302, 88, 19), "24.97", 146, "21.0"), ((416, 244, 78), "49.96", 204, "45.6"),
              ((436, 356, 235), "74.96", 218, "70.9")],
    "cnn_s": [((23, 5), "25.00", 0, "22.4"), ((26, 13), "49.64", 8_960, "47.0"), ((28, 21), "73.82", 29_120, "73.8")],
    "cnn_l": [((56, 16), "24.99", 1_600, "23.7"), ((57, 36), "49.96", 4_800, "47.8"),
              ((58, 56), "74.94", 8_000, "72.7")],
}  # fmt: skip
SEARCHED_MACS = {"dnn_s": 77_472, "dnn_l": 489_192, "cnn_s": 2_464_000, "cnn_l": 12_345_600}


CAPTURED = {}


def captured(name, make, shape):
    """A graph of one's own; the capture, which takes most of the time, is made once."""
    if name not in CAPTURED:
        CAPTURED[name] = capture(make().eval(), shape)
    return CAPTURED[name].copy()


@pytest.fixture
def sample(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS / "model"))
    import model_samples

    def make(name):
        module, shape = model_samples.SHAPES[name]
        return captured(f"{name} sample", lambda: model_samples.lively(module()), shape)

    return make


@pytest.fixture
def published(monkeypatch):
    monkeypatch.syspath_prepend(str(ADAPTERS))
    import reds_nets

    def make(name):
        shape = reds_nets.DNN_INPUT if name.startswith("dnn") else reds_nets.KEYWORDS_INPUT
        graph = captured(name, getattr(reds_nets, name), shape)
        return graph, coupling_groups(graph)

    return make


def scores_of(coupling, seed=0):
    random = np.random.default_rng(seed)
    return {group.name: random.exponential(size=group.size) for group in coupling.groups}


def ordered(graph, seed=0):
    coupling = coupling_groups(graph)
    return coupling, order_units(graph, coupling, scores_of(coupling, seed))


@pytest.mark.parametrize(("name", "row"), [(name, row) for name in PUBLISHED for row in range(3)])
def test_published_widths_cost_what_the_table_prints(published, name, row):
    graph, coupling = published(name)
    widths, nominal, slack, true = PUBLISHED[name][row]
    kept = {group.name: width for group, width in zip(coupling.groups, widths, strict=False)}
    operators = macs_by_node(graph, coupling)
    dense = [dense_input(operator, coupling, list(kept)) for operator in operators]
    searched = sum(one.at(coupling, {}) for one in dense)
    found = sum(one.at(coupling, kept) for one in dense)
    assert searched == SEARCHED_MACS[name]
    assert f"{100 * found / searched:.2f}" == nominal
    assert (row + 1) * searched // 4 - found == slack
    macs = sum(operator.macs.at(coupling, kept) for operator in operators)
    assert f"{100 * macs / cost(graph.module, graph.input_shape).macs:.1f}" == true
    units = [one.at(coupling, {**kept, g: kept[g] + 1}) - one.at(coupling, kept) for one in dense for g in kept
             if kept[g] < coupling.group(g).size]  # fmt: skip
    assert slack < max(units)
    if (name, row) != ("dnn_s", 1):
        assert slack < min(unit for unit in units if unit)


@pytest.mark.parametrize("name", PUBLISHED)
def test_dense_input_search_leaves_less_than_the_cheapest_unit(published, name):
    graph, coupling = published(name)
    searched = [group.name for group in coupling.groups][: len(PUBLISHED[name][0][0])]
    scores = order_units(graph, coupling, scores_of(coupling))
    rules = Rules(cost="dense-input", searched=searched)
    problem = problem_of(graph, coupling, scores, rules)
    full = problem.cost(problem.full)
    assert full == SEARCHED_MACS[name]
    ladder = choose_levels(graph, coupling, scores, [0.25, 0.5, 0.75, 1.0], rules=rules)
    for level in ladder.levels[:-1]:
        choice = [list(o).index(level.widths[n]) for n, o in zip(problem.names, problem.options, strict=True)]
        spare = level.budget * full - problem.cost(choice)
        assert spare >= 0
        for index, at in enumerate(choice):
            if at < problem.full[index]:
                assert problem.cost([*choice[:index], at + 1, *choice[index + 1 :]]) - problem.cost(choice) > spare


@pytest.mark.parametrize("name", ["resnet", "padded", "dscnn", "conv1d", "vit", "mixer"])
@pytest.mark.parametrize("order", ["bottom-up", "top-down", "joint", "uniform"])
def test_levels_are_nested_and_keep_budgets_floors_and_multiples(sample, name, order):
    graph = sample(name)
    coupling, scores = ordered(graph)
    rules = Rules(multiple=4, floor=4)
    budgets = [0.5, 0.75, 1.0]
    ladder = choose_levels(graph, coupling, scores, budgets, rules=rules, order=order)
    assert [level.name for level in ladder.levels] == ["w50", "w75", "w100"]
    for level, budget in zip(ladder.levels, budgets, strict=True):
        assert level.share <= budget
        for group in coupling.groups:
            channels = level.widths[group.name] * group.channels // group.size
            assert channels >= 4
            assert channels % 4 == 0 or level.widths[group.name] == group.size
    for narrower, wider in zip(ladder.levels, ladder.levels[1:], strict=False):
        assert all(narrower.widths[name] <= wider.widths[name] for name in wider.widths)
    assert ladder.levels[-1].share == 1.0
    assert ladder.levels[-1].value == 1.0


@pytest.mark.parametrize("name", ["resnet", "padded", "dscnn", "vit"])
def test_level_facts_equal_those_of_the_graph_taken_out(sample, name):
    graph = sample(name)
    coupling, scores = ordered(graph)
    ladder = choose_levels(graph, coupling, scores, [0.4, 1.0])
    nested = Nested(graph, coupling, ladder.levels)
    for level in ladder.levels:
        found = cost(extract(nested, level.name).module, graph.input_shape)
        assert (level.macs, level.parameters, level.peak_bytes) == (found.macs, found.parameters, found.peak_bytes)


def test_ordering_puts_important_units_first_and_keeps_the_function(sample):
    graph = sample("resnet")
    x = torch.randn(2, *graph.input_shape)
    before = graph(x)
    _, scores = ordered(graph)
    assert all((np.diff(values) <= 0).all() for values in scores.values())
    torch.testing.assert_close(graph(x), before, rtol=1e-5, atol=1e-5)


def test_memory_limit_holds_for_every_level_and_binds_with_its_reason(sample):
    graph = sample("dscnn")
    coupling, scores = ordered(graph)
    whole = choose_levels(graph, coupling, scores, [1.0]).levels[-1]
    limit = whole.peak_bytes * 2 // 3
    ladder = choose_levels(graph, coupling, scores, [0.5, 1.0], rules=Rules(memory_limit_bytes=limit))
    assert all(level.peak_bytes <= limit for level in ladder.levels)
    with pytest.raises(EbbtideError) as refused:
        choose_levels(graph, coupling, scores, [0.5, 1.0], rules=Rules(memory_limit_bytes=100))
    assert refused.value.code == "nesting.infeasible"
    assert "input and output" in refused.value.found


def test_budget_below_the_floors_is_refused_with_the_floors(sample):
    graph = sample("dscnn")
    coupling, scores = ordered(graph)
    with pytest.raises(EbbtideError) as refused:
        choose_levels(graph, coupling, scores, [0.05, 1.0], rules=Rules(floor=12))
    assert refused.value.code == "nesting.infeasible"
    assert refused.value.found


def test_network_with_nothing_to_shrink_says_why(sample):
    graph = sample("dscnn")
    coupling, scores = ordered(graph)
    with pytest.raises(EbbtideError) as refused:
        choose_levels(graph, coupling, scores, [0.5, 1.0], rules=Rules(multiple=64))
    assert refused.value.code == "nesting.nothing_to_shrink"
    assert "classes" in refused.value.found


def test_measured_times_take_the_place_of_macs(sample):
    graph = sample("dscnn")
    coupling, scores = ordered(graph)

    class Steps:
        """A layer costs 1 us for every started 8 outputs and inputs."""

        def latency_us(self, operator, outputs, inputs):
            return float(-(-outputs // 8) * -(-inputs // 8))

    ladder = choose_levels(graph, coupling, scores, [0.6, 1.0], rules=Rules(cost=Steps()))
    times = {level.name: _time(graph, coupling, level, Steps()) for level in ladder.levels}
    assert times["w60"] <= 0.6 * times["w100"]
    # Within a step of 8 a wider layer costs nothing, so the search takes all of it.
    assert all(width % 8 == 0 for width in ladder.levels[0].widths.values())


def _time(graph, coupling, level, times):
    return sum(
        times.latency_us(one, one.outputs.at(coupling, level.widths), one.inputs.at(coupling, level.widths))
        for one in macs_by_node(graph, coupling)
    )


def test_nested_network_is_the_same_after_saving(sample, tmp_path):
    graph = sample("padded")
    coupling, scores = ordered(graph)
    ladder = choose_levels(graph, coupling, scores, [0.5, 1.0])
    own = {"a.1.running_mean": torch.full((ladder.levels[0].widths["a.0"] + ladder.levels[0].widths["stem.0"],), 0.25)}
    nested = Nested(graph, coupling, ladder.levels, "private", {"w50": own})
    nested.save(tmp_path)
    again = Nested.load(sample("padded"), tmp_path)
    assert again.levels == nested.levels
    assert again.norm == "private"
    x = torch.randn(2, *graph.input_shape)
    for level in ("w50", "w100"):
        assert torch.equal(extract(again, level)(x), extract(nested, level)(x))
    assert float(extract(again, "w50").state()["a.1.running_mean"][0]) == 0.25
    assert float(extract(again, "w100").state()["a.1.running_mean"][0]) != 0.25


def test_damaged_file_and_unknown_level_are_refused(sample, tmp_path):
    graph = sample("dscnn")
    coupling, scores = ordered(graph)
    nested = Nested(graph, coupling, choose_levels(graph, coupling, scores, [0.5, 1.0]).levels)
    with pytest.raises(EbbtideError) as refused:
        extract(nested, "w75")
    assert refused.value.code == "nesting.level"
    nested.save(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(EbbtideError) as refused:
        Nested.load(graph, tmp_path)
    assert refused.value.code == "nesting.file"
