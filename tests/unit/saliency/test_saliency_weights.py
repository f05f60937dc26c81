from __future__ import annotations

import numpy as np
import pytest
from saliency_samples import layered, samples

from ebbtide.errors import EbbtideError
from ebbtide.model import coupling_groups
from ebbtide.saliency import collect, unit_scores, weight_scores


@pytest.fixture(scope="module")
def scored():
    graph = layered()
    return graph, collect(graph, samples(48), batches=4, batch_size=12)


@pytest.mark.parametrize("kind", ["signed", "absolute", "magnitude"])
def test_scores_of_units_are_sums_of_those_of_their_weights(scored, kind):
    graph, statistics = scored
    weights = weight_scores(graph, ["0.weight", "3.weight", "10.weight"], kind, statistics=statistics)
    first, *_, last = unit_scores(graph, coupling_groups(graph), kind, statistics=statistics).values()
    both = weights["0.weight"].sum(axis=(1, 2, 3)) + weights["3.weight"].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(first, both, rtol=1e-12)
    np.testing.assert_allclose(last, weights["10.weight"].sum(axis=1), rtol=1e-12)


def test_random_scores_follow_from_name_and_seed_alone(scored):
    graph, _ = scored
    some = weight_scores(graph, ["6.weight"], "random", seed=3)["6.weight"]
    more = weight_scores(graph, ["0.weight", "6.weight"], "random", seed=3)
    assert np.array_equal(some, more["6.weight"])
    assert some.shape == (6, 8, 1, 1)
    assert not np.array_equal(some, weight_scores(graph, ["6.weight"], "random", seed=4)["6.weight"])


def test_what_is_missing_or_not_finite_is_said(scored):
    graph, statistics = scored
    for kind, code in (("absolute", "saliency.statistics"), ("loudness", "saliency.kind")):
        with pytest.raises(EbbtideError) as caught:
            weight_scores(graph, ["0.weight"], kind)
        assert caught.value.code == code
    broken = graph.copy()
    broken.state()["0.weight"][0] = float("nan")
    with pytest.raises(EbbtideError) as caught:
        weight_scores(broken, ["0.weight"], "absolute", statistics=statistics)
    assert (caught.value.code, caught.value.place) == ("saliency.nonfinite", "0.weight")
