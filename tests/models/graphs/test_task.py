"""The task: losses, measures, the report on equivariance, the picture, and that it learns."""

import pytest
import torch

from eqlib.models.graphs import FAGIN, GIN, GraphClassification, exp_classify
from eqlib.models.graphs.networks.base import SIGNATURE
from eqlib.models.graphs.task import network_inputs
from tests.tolerances import EQUIVARIANCE


def build(network, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(width=16, layers=3, **options).eval()


@pytest.fixture
def splits(exp):
    return exp_classify(exp)


def test_gin_is_right_for_one_half_of_the_pairs(splits):
    batch = splits.test[torch.arange(20)]
    with torch.no_grad():
        found = GraphClassification().measures(build(GIN), batch)
    assert found["accuracy"].sum() == 10
    assert found["agreement"].eq(1).all()
    assert found["accuracy_relabelled"].sum() == 10


def test_measures_of_sampled_frames_count_those_relabellings_that_agree(splits):
    batch = splits.test[torch.arange(20)]
    with torch.no_grad():
        found = GraphClassification().measures(build(FAGIN, samples=1), batch)
    assert set(found) == {"cross_entropy", "accuracy", "agreement", "accuracy_relabelled"}
    assert all(values.shape == (20,) for values in found.values())
    assert ((found["agreement"] > 0) & (found["agreement"] <= 1)).any()
    whole = (found["agreement"] * 32).round() / 32
    assert torch.allclose(found["agreement"], whole)
    # where all agree with a right prediction all are right, and none where it is wrong
    steady = found["agreement"] == 1
    assert torch.equal(found["accuracy"][steady], found["accuracy_relabelled"][steady])


def test_validation_has_no_relabellings(splits):
    found = GraphClassification().measures(build(GIN), splits.valid[torch.arange(4)])
    assert set(found) == {"cross_entropy", "accuracy"}


def test_losses_are_the_cross_entropy_of_each_graph(splits):
    batch, network = splits.train[torch.arange(6)], build(GIN)
    losses = GraphClassification().losses(network, batch)
    chance = network(**network_inputs(batch)).softmax(1).gather(1, batch["y"][:, None])
    assert torch.allclose(losses, -chance[:, 0].log(), atol=1e-6)


def test_the_report_passes_gin_and_states_the_error_of_sampled_frames(splits):
    errors = GraphClassification().equivariance(build(GIN), splits.test)
    assert errors["float32"] < EQUIVARIANCE[torch.float32]
    assert errors["float64"] < EQUIVARIANCE[torch.float64]
    network = build(FAGIN)
    assert GraphClassification().equivariance(network, splits.test)["float64"] > 1e-3
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_inputs_are_those_of_the_signature(splits):
    example = GraphClassification().example(splits.test)
    assert set(example) == {*SIGNATURE.inputs, "classes", "num_graphs"}
    assert example["num_graphs"] == 100


def test_training_separates_pairs_with_frames_and_none_without(splits):
    accuracy = {}
    for network in (GIN, FAGIN):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            made = network(width=16, layers=3).train()
            optimiser = torch.optim.AdamW(made.parameters(), 1e-2)
            for _ in range(50):
                batch = splits.train[torch.randint(len(splits.train), (40,))]
                optimiser.zero_grad()
                GraphClassification().losses(made, batch).mean().backward()
                optimiser.step()
            with torch.no_grad():
                measures = GraphClassification().measures(
                    made.eval(), splits.valid[torch.arange(40)]
                )
        accuracy[network] = measures["accuracy"].mean().item()
    assert accuracy[GIN] == 0.5
    assert accuracy[FAGIN] > 0.9, accuracy


def test_the_picture_is_a_png(splits, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs the extra eqlib[plot]")
    path = tmp_path / "predictions.png"
    GraphClassification().picture(build(GIN), splits.test, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < path.stat().st_size < 200_000
