"""Frames with a fixed axis: equivariant under turns about it, and not under tilts."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad, gradcheck

from eqlib.frames import FrameAverage, axial_frames
from eqlib.symmetry import (
    NodeOrder,
    Permutations,
    Point,
    Pseudoscalar,
    Scalar,
    Signature,
    Vector,
    as_group,
    equivariance_error,
)
from tests.frames.clouds import DEGENERATE, mlp
from tests.tolerances import EQUIVARIANCE

GROUPS = [
    "SO(3) about z",
    "O(3) about x",
    "SE(3) about z",
    "E(3) about y",
    "SE(2) about z",
    "E(2) about (0.0, 0.6, 0.8)",
    "SE(3) about (0.6, 0.0, -0.8)",
]


class Pointwise(nn.Module):
    """A network on points and velocities without symmetry."""

    def __init__(self) -> None:
        super().__init__()
        self.network = mlp(6, 8)

    def forward(self, points: Tensor, velocities: Tensor) -> dict[str, Tensor]:
        features = self.network(torch.cat([points, velocities], -1))
        scalar, pseudoscalar, vector, point = features.split([1, 1, 3, 3], -1)
        return {"scalar": scalar, "pseudo": pseudoscalar, "vector": vector, "point": point}


def signature_under(group: str) -> Signature:
    order = NodeOrder(-2)
    return Signature(
        as_group(group) * Permutations(),
        inputs={"points": Point() * order, "velocities": Vector() * order},
        outputs={
            "scalar": Scalar() * order,
            "pseudo": Pseudoscalar() * order,
            "vector": Vector() * order,
            "point": Point() * order,
        },
    )


def streets(rng: torch.Generator, *shape: int, group: str) -> Tensor:
    """Clouds that are three times as long as wide when looked at along the axis of the group."""
    points = torch.randn(*shape, 3, dtype=torch.float64, generator=rng)
    spread = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
    turn = as_group(group).sample(rng).matrix[0]
    return (points * spread + 0.5) @ (turn @ as_group(group).basis()).mT


@pytest.mark.parametrize("group", GROUPS)
def test_every_kind_of_output_commutes_with_turns_but_not_with_tilts(group, rng):
    signature = signature_under(group)
    layer = FrameAverage(Pointwise(), signature=signature)
    points = streets(rng, 2, 8, group=group)
    velocities = torch.randn(2, 8, 3, dtype=torch.float64, generator=rng)
    assert layer.frames(points).gap.min() > 2e-2
    for dtype in (torch.float32, torch.float64):
        inputs = {"points": points.to(dtype), "velocities": velocities.to(dtype)}
        report = equivariance_error(layer.to(dtype), inputs, samples=16, generator=rng)
        assert report.max < EQUIVARIANCE[dtype], report
    # controls: the same check must reject the bare backbone, and tilts of the average
    bare = equivariance_error(layer.backbone, inputs, signature, generator=rng)
    assert min(bare.outputs.values()) > 1e-2, bare
    tilted = equivariance_error(layer, inputs, signature_under("SO(3)"), generator=rng)
    assert min(tilted.outputs.values()) > 1e-2, tilted


@pytest.mark.parametrize("group", GROUPS)
def test_frames_are_elements_of_the_group(group, rng):
    points = streets(rng, 5, 8, group=group)
    frames = axial_frames(points, group)
    known = as_group(group)
    axis = torch.tensor(known.axis, dtype=torch.float64)
    assert frames.frames.shape == (5, 4 if known.reflections else 2, 3, 3)
    torch.testing.assert_close(frames.frames @ axis, axis.expand(frames.frames.shape[:-1]))
    eye = torch.eye(3, dtype=torch.float64).expand_as(frames.frames)
    torch.testing.assert_close(frames.frames @ frames.frames.mT, eye)
    expected = {-1.0, 1.0} if known.reflections else {1.0}
    assert set(torch.linalg.det(frames.frames).sign().flatten().tolist()) == expected
    middle = points.mean(1) if known.translations else torch.zeros(5, 3, dtype=torch.float64)
    if known.horizontal:
        middle = middle - (middle @ axis)[:, None] * axis
    torch.testing.assert_close(frames.centroid, middle)


def test_axes_are_those_of_the_horizontal_variances(rng):
    points = streets(rng, 30, group="SE(3) about y")
    frames = axial_frames(points, "SE(3) about y")
    flat = points.numpy()[:, [2, 0]]
    values, axes = np.linalg.eigh(np.cov(flat.T))
    np.testing.assert_allclose(frames.gap, (values[1] - values[0]) / values.sum(), rtol=1e-12)
    # coordinates keep their place: z of the canonical coordinates is along the largest variance
    for frame in frames.frames.numpy():
        np.testing.assert_allclose(abs(axes[:, 1] @ frame[[2, 0], 2]), 1.0, rtol=1e-12)
        np.testing.assert_allclose(frame[1], [0, 1, 0], atol=1e-15)


@pytest.mark.parametrize("group", GROUPS)
def test_signs_relate_the_frames(group, rng):
    frames = axial_frames(streets(rng, 2, 8, group=group), group)
    if as_group(group).aligned:
        related = frames.axes.unsqueeze(-3) * frames.signs.unsqueeze(-2)
        torch.testing.assert_close(frames.frames, related)
        assert (frames.signs[0] == 1).all()
    else:
        assert frames.signs is None


@pytest.mark.parametrize("group", ["SE(3) about z", "E(2) about (0.0, 0.6, 0.8)"])
def test_dense_masked_and_ragged_batches_give_the_same(group, rng):
    sizes = [7, 5, 9]
    clouds = [streets(rng, size, group=group) for size in sizes]
    batch = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    ragged = axial_frames(torch.cat(clouds), group, batch=batch, num_graphs=3)
    padded = torch.full((3, 9, 3), torch.nan, dtype=torch.float64)
    mask = torch.arange(9) < torch.tensor(sizes)[:, None]
    padded[mask] = torch.cat(clouds)
    dense = axial_frames(padded, group, mask)
    for i, cloud in enumerate(clouds):
        alone = axial_frames(cloud, group)
        for frames in (ragged, dense):
            torch.testing.assert_close(frames.centroid[i], alone.centroid)
            torch.testing.assert_close(frames.gap[i], alone.gap)
            # the same set of frames, in any order
            distance = (frames.frames[i][:, None] - alone.frames).abs().amax((-1, -2))
            assert (distance.amin(1) < 1e-12).all()


@pytest.mark.parametrize("group", ["SO(3) about z", "E(3) about (0.6, 0.0, -0.8)"])
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_clouds_have_finite_outputs_and_gradients(kind, group):
    layer = FrameAverage(mlp(), group=group)
    points = DEGENERATE[kind].double().requires_grad_()
    outputs = layer(points)
    assert outputs.isfinite().all()
    (first,) = grad(outputs.square().sum(), points, create_graph=True)
    (second,) = grad(first.square().sum(), points)
    assert first.isfinite().all()
    assert second.isfinite().all()


ROUND = ["ring", "prism", "cube", "octahedron", "tetrahedron"]  # when looked at from above
# Errors have no scale in a cloud without points, or of a radius that is a rounding error.
OTHERS = [kind for kind in DEGENERATE if kind not in (*ROUND, "no point", "coincident")]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("minimal", kind) for kind in OTHERS] + [("weighted", kind) for kind in ROUND + OTHERS],
)
def test_other_modes_commute_with_turns_of_degenerate_clouds(mode, kind, rng):
    layer = FrameAverage(mlp(), group="E(3) about z", mode=mode)
    cloud = DEGENERATE[kind].double()
    assert equivariance_error(layer, {"points": cloud}, generator=rng).max < 1e-12


def test_a_cloud_that_looks_round_from_above_has_no_gap_and_no_exact_average(rng):
    cube = DEGENERATE["cube"].double()
    layer = FrameAverage(mlp(), group="SE(3) about z")
    assert layer.frames(cube).gap < 1e-12
    assert equivariance_error(layer, {"points": cube}, generator=rng).max > 1e-3


@pytest.mark.parametrize("group", ["SE(3) about z", "E(2) about (0.0, 0.6, 0.8)"])
def test_gradients_are_those_of_the_function(group, rng):
    layer = FrameAverage(mlp(), group=group)
    points = streets(rng, 6, group=group).requires_grad_()
    assert gradcheck(layer, points)
    detached = FrameAverage(layer.backbone, group=group, detach=True)
    exact, wrong = (grad(map(points).square().sum(), points)[0] for map in (layer, detached))
    assert (exact - wrong).abs().max() > 1e-3


@pytest.mark.unchecked
def test_other_groups_are_refused(rng):
    points = streets(rng, 7, group="SE(3) about z")
    with pytest.raises(ValueError, match=r"group: expected one with a fixed axis, .*got 'SE\(3\)'"):
        axial_frames(points, "SE(3)")
    with pytest.raises(ValueError, match=r"points: expected shape"):
        axial_frames(points[:, :2], "SE(3) about z")
