"""The options of GIN: what they change, and what they leave as it is."""

import pytest
import torch

from eqlib.models.graphs.networks import GIN
from eqlib.models.graphs.networks.base import SIGNATURE
from eqlib.symmetry import equivariance_error
from eqlib.usage import UsageError
from tests.models.graphs.networks.samples import SIZES, odd_graphs, seeded
from tests.tolerances import EQUIVARIANCE

OPTIONS = [
    {},
    {"read": "all"},
    {"pool": "mean"},
    {"inner_norm": True},
    {"read": "all", "pool": "mean", "inner_norm": True, "dropout": 0.5},
]


def build(dtype=torch.float64, **options):
    return seeded(GIN, dtype, width=8, layers=2, node_types=3, **options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_order_of_the_nodes_does_not_count(dtype, options, rng):
    made = build(dtype, **options)
    found = equivariance_error(made, odd_graphs(), SIGNATURE, generator=rng)
    assert found.max < EQUIVARIANCE[dtype]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_equals_its_graphs(options):
    made = build(**options)
    alone = torch.cat([made(**odd_graphs(chosen=[index])) for index in range(len(SIZES))])
    assert torch.allclose(made(**odd_graphs()), alone, rtol=1e-12, atol=1e-12)


def test_without_options_the_weights_are_named_as_ever():
    """Checkpoints of earlier runs load."""
    names = {name.rsplit(".", 1)[0] for name in build().state_dict() if name != "epsilon"}
    layers = {f"layers.{layer}.{part}" for layer in range(2) for part in (0, 2, 3)}
    assert names == {"embed", "decode.0", "decode.2"} | layers


def test_all_layers_are_read_out():
    made, given = build(read="all"), odd_graphs(chosen=[4])
    assert made.decode.weight.shape == (2, 3 * 8)
    with torch.no_grad():
        made.decode.weight[:, 8:] = 0
    counts = torch.bincount(given["x"], minlength=3).double()
    expected = made.decode.weight[:, :8] @ (counts @ made.embed.weight) + made.decode.bias
    assert torch.allclose(made(**given)[0], expected, rtol=1e-12)


def test_means_do_not_see_how_often_a_graph_is_repeated():
    given = odd_graphs(chosen=[4, 4])
    merged = given | {"batch": torch.zeros_like(given["batch"]), "num_graphs": 1}
    for pool, same in (("mean", True), ("sum", False)):
        made = build(pool=pool)
        assert torch.allclose(made(**merged)[0], made(**given)[0], rtol=1e-12) == same


def test_dropout_acts_in_training_alone():
    made, given = build(dropout=0.5), odd_graphs()
    assert torch.equal(made(**given), build()(**given))
    made.train()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert not torch.equal(made(**given), made(**given))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_finite(options):
    made = build(**options).train()
    with torch.random.fork_rng():
        made(**odd_graphs()).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


@pytest.mark.parametrize("options", [{}, OPTIONS[-1]], ids=str)
@pytest.mark.unchecked
def test_it_compiles_as_one_graph(options):
    made, given = build(**options), odd_graphs()
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager", dynamic=True)
    assert torch.allclose(compiled(**given), made(**given), rtol=1e-12)


@pytest.mark.parametrize("name", ["read", "pool"])
@pytest.mark.unchecked
def test_an_unknown_choice_is_named(name):
    with pytest.raises(UsageError, match=f"unknown {name} 'some'"):
        GIN(**{name: "some"})
