"""Frames that a network computes anew from its latent vectors."""

import copy

import pytest
import torch
from torch import nn

from eqlib.frames import LatentFrames, from_frames, pca_frames, to_frames, weighted_frames
from eqlib.symmetry import (
    BatchIndex,
    E,
    NodeOrder,
    O,
    Permutations,
    Signature,
    Vector,
    assert_equivariant,
    equivariance_error,
)
from tests.frames.clouds import mlp, separated

BATCH = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2, 2])


class Layered(nn.Module):
    """Layers without symmetry, on latent vectors in frames of their own."""

    def __init__(self, group="O(3)", turned=True, **options):
        super().__init__()
        self.latent = LatentFrames(group, **options)
        self.layers = nn.ModuleList([mlp(6, 12), mlp(12, 12), mlp(12, 3)])
        self.turned = turned

    def forward(self, vectors, batch=None):
        layout = {} if batch is None else {"batch": batch, "num_graphs": 3}
        frames = self.latent.frames(vectors, **layout)
        features = self.latent.enter(vectors, frames)
        for depth, layer in enumerate(self.layers):
            if depth and self.turned:
                features, frames = self.latent(features, frames, **layout)
            features = layer(features)
        return self.latent.leave(features, frames)


@pytest.mark.parametrize("group", ["O(3)", "SO(3)", "E(3)"])
def test_layered_networks_commute_with_rotations_and_permutations(group, rng):
    order = NodeOrder(-3)
    signature = Signature(
        (O(3) if group != "SO(3)" else LatentFrames(group).group) * Permutations(),
        {"vectors": Vector() * order, "batch": BatchIndex()},
        Vector() * order,
    )
    inputs = {"vectors": separated(rng, 9, 2), "batch": BATCH}
    network = Layered(group)
    assert_equivariant(network, inputs, signature, samples=16, tolerance=1e-11, generator=rng)

    def bare(vectors, batch):  # control: the same layers in the axes of space
        features = vectors.flatten(-2)
        for layer in network.layers:
            features = layer(features)
        return features.unflatten(-1, (-1, 3))

    assert equivariance_error(bare, inputs, signature, generator=rng).max > 1e-2


def test_latent_frames_are_others_than_those_of_the_input(rng):
    vectors = separated(rng, 9, 2)
    turned, fixed = Layered()(vectors), Layered(turned=False)(vectors)
    assert (turned - fixed).abs().max() > 1e-3


def test_one_turn_is_there_and_back_in_frames(rng):
    vectors = separated(rng, 9, 2)
    latent, linear = LatentFrames("O(3)"), mlp(6, 12)
    frames = latent.frames(vectors, batch=BATCH, num_graphs=3)
    features, turned = latent(linear(latent.enter(vectors, frames)), frames, None, BATCH, 3)
    found = pca_frames(vectors, "O(3)", batch=BATCH, num_graphs=3)
    inside = linear(to_frames(vectors, Vector(), found, BATCH).flatten(-2)).unflatten(-1, (4, 3))
    world = from_frames(inside, Vector(), found, BATCH)
    second = pca_frames(world, "O(3)", batch=BATCH, num_graphs=3)
    expected = to_frames(world, Vector(), second, BATCH).flatten(-2).movedim(0, 1)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(turned.gap, second.gap[BATCH])


def test_dense_masked_and_ragged_clouds_agree(rng):
    vectors = separated(rng, 9, 2)
    mask = torch.tensor([[True] * 4 + [False], [True] * 5])
    padded = torch.full((2, 5, 2, 3), torch.nan, dtype=torch.float64)
    padded[mask] = vectors
    latent = LatentFrames("E(3)")
    ragged = latent.frames(vectors, batch=BATCH, num_graphs=3)
    dense = latent.frames(padded, mask)
    torch.testing.assert_close(dense.gap[mask], ragged.gap)
    torch.testing.assert_close(dense.frames[mask].abs(), ragged.frames.abs())
    alone = latent.frames(vectors[:4])
    torch.testing.assert_close(alone.frames.abs(), ragged.frames[:4].abs())


def test_training_draws_frames_and_evaluation_takes_all(rng):
    vectors = separated(rng, 9, 2)
    network = Layered(mode="stochastic", samples=3, generator=rng)
    state = rng.get_state()
    first = network(vectors, BATCH)
    rng.set_state(state)
    assert torch.equal(copy.deepcopy(network)(vectors, BATCH), first)
    assert network.latent.frames(vectors, batch=BATCH).frames.shape == (9, 3, 3, 3)
    network.eval()
    torch.testing.assert_close(network(vectors, BATCH), Layered()(vectors, BATCH))
    # control: draws differ
    assert (network.train()(vectors, BATCH) - first).abs().max() > 1e-3


def test_detached_frames_bias_the_gradients_of_parameters(rng):
    vectors = separated(rng, 9, 2)
    gradients = []
    for detach in (False, True):
        network = Layered(detach=detach)
        network(vectors, BATCH).square().sum().backward()
        gradients.append(network.layers[0][0].weight.grad)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3


def test_the_precision_is_kept_under_autocast(rng):
    vectors = separated(rng, 9, 2, dtype=torch.float32)
    latent = LatentFrames("O(3)")
    frames = latent.frames(vectors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        back = latent.leave(latent.enter(vectors, frames), frames)
    torch.testing.assert_close(back, vectors, rtol=1e-6, atol=1e-6)


@pytest.mark.unchecked
def test_wrong_arguments_are_refused(rng):
    vectors = separated(rng, 9, 2)
    with pytest.raises(ValueError, match="mode: expected full, stochastic"):
        LatentFrames("O(3)", "latent")
    with pytest.raises(ValueError, match=r"Permutations\(\) has no 'full' frames|mode: Perm"):
        LatentFrames("Permutations()")
    with pytest.raises(ValueError, match="samples: expected at least one"):
        LatentFrames("O(3)", samples=0)
    with pytest.raises(TypeError, match="frames of another number for each cloud"):
        LatentFrames("O(3)", weighted_frames).frames(vectors)
    latent = LatentFrames(E(3))
    frames = latent.frames(vectors)
    with pytest.raises(ValueError, match=r"a multiple of 3 channels.*\(9, 8, 7\)"):
        latent.leave(torch.zeros(9, 8, 7), frames)
