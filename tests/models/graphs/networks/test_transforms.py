"""Networks of graphs in forward mode and under the transforms of torch.func."""

import pytest
import torch
from torch.func import functional_call, jvp, vjp

from eqlib.models.graphs.networks import GIN, PPGN, SPEN
from tests.models.graphs.networks.samples import odd_graphs, seeded

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of torch

NETWORKS = {
    "gin": (GIN, {}),
    "ppgn": (PPGN, {"layers": 2}),
    "spen": (SPEN, {"layers": 2}),
    "spen, rooted": (SPEN, {"layers": 2, "rooted": True}),
    "spen, attention": (SPEN, {"layers": 2, "aggregation": "attention"}),
    "spen, graph norm": (SPEN, {"layers": 2, "norm": "graph"}),
}


# The batch norm of torch, that of GIN and PPGN, counts calls in place: no transform takes it.
TRAINED = [name for name in NETWORKS if name.startswith("spen")]


@pytest.mark.parametrize(
    ("name", "training"),
    [*((name, False) for name in NETWORKS), *((name, True) for name in TRAINED)],
)
def test_forward_mode_is_the_transpose_of_reverse_mode(name, training, rng):
    network, options = NETWORKS[name]
    made = seeded(network, width=4, node_types=3, dropout=0.0, **options).train(training)
    weights, given = dict(made.named_parameters()), odd_graphs()
    tangents = {
        name: torch.randn(weight.shape, generator=rng, dtype=torch.float64)
        for name, weight in weights.items()
    }

    def function(weights):
        return functional_call(made, weights, kwargs=given)

    detached = {name: weight.detach() for name, weight in weights.items()}
    result, moved = jvp(function, (detached,), (tangents,))
    cotangent = torch.randn(result.shape, generator=rng, dtype=torch.float64)
    (gradients,) = vjp(function, detached)[1](cotangent)
    usual = torch.autograd.grad(made(**given), list(weights.values()), cotangent, allow_unused=True)
    total = 0.0
    for (key, tangent), gradient in zip(tangents.items(), usual, strict=True):
        expected = torch.zeros_like(tangent) if gradient is None else gradient
        assert torch.allclose(gradients[key], expected, rtol=1e-8, atol=1e-11), key
        total += float((expected * tangent).sum())
    assert (moved * cotangent).sum().item() == pytest.approx(total, 1e-8)
