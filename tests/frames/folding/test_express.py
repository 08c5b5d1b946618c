"""Expressing tensors in frames and bringing them back."""

import pytest
import torch
from torch.autograd import gradcheck

from eqlib.frames import Frames, from_frames, pca_frames, to_frames
from eqlib.symmetry import (
    Element,
    Irreps,
    NodeOrder,
    O,
    Point,
    Pseudoscalar,
    Pseudovector,
    Scalar,
    SphericalTensor,
    Vector,
)
from tests.frames.clouds import GROUPS, separated

KINDS = [
    Scalar(),
    Pseudoscalar(),
    Vector(),
    Pseudovector(),
    Point(),
    Point() * NodeOrder(-2),
    Irreps("1x0o+1x1e"),
    Irreps("1x1o+1x2e+2x0e"),
]


def values_of(kind, rng, *shape):
    width = {"Scalar()": 4, "Pseudoscalar()": 4}.get(str(kind), 3)
    if isinstance(kind, Irreps):
        width = kind.size(O(3))
    return torch.randn(*shape, width, dtype=torch.float64, generator=rng)


def test_coordinates_are_projections_on_the_axes(rng):
    points = separated(rng, 2, 5)
    frames = pca_frames(points, "E(3)")
    offsets = points - frames.centroid[:, None]
    vectors = torch.einsum("bni,bfij->fbnj", offsets, frames.frames)
    torch.testing.assert_close(to_frames(points, Point(), frames), vectors)
    torch.testing.assert_close(to_frames(offsets, Vector(), frames), vectors)
    handedness = torch.linalg.det(frames.frames).mT[:, :, None, None]
    torch.testing.assert_close(to_frames(offsets, Pseudovector(), frames), handedness * vectors)
    torch.testing.assert_close(
        to_frames(offsets, Pseudoscalar(), frames), handedness * offsets.expand_as(vectors)
    )
    assert torch.equal(to_frames(offsets, Scalar(), frames), offsets.expand_as(vectors))
    assert handedness.round().unique().tolist() == [-1, 1]


def test_averages_are_means_over_the_frames(rng):
    points = separated(rng, 2, 5)
    frames = pca_frames(points, "SE(3)")
    inside = torch.randn(4, 2, 5, 3, dtype=torch.float64, generator=rng)
    expected = torch.einsum("fbnj,bfij->bni", inside, frames.frames) / 4
    torch.testing.assert_close(from_frames(inside, Vector(), frames), expected)
    moved = from_frames(inside, Point(), frames)
    torch.testing.assert_close(moved, expected + frames.centroid[:, None])
    torch.testing.assert_close(from_frames(inside, Scalar(), frames), inside.mean(0))


@pytest.mark.parametrize("features", [(), (4,), (2, 3)], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_there_and_back_is_the_identity_in_every_layout(kind, features, rng):
    batch = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2, 2])
    dense = pca_frames(separated(rng, 2, 3, 6), "E(3)")
    ragged = pca_frames(separated(rng, 9), "E(3)", batch=batch, num_graphs=4)
    single = pca_frames(separated(rng, 6), "E(3)")
    for frames, rows, index in ((dense, (2, 3), None), (ragged, (9,), batch), (single, (), None)):
        values = values_of(kind, rng, *rows, *features)
        inside = to_frames(values, kind, frames, index)
        assert inside.shape == (8, *values.shape)
        torch.testing.assert_close(from_frames(inside, kind, frames, index), values)


@pytest.mark.parametrize("signs", [True, False], ids=["signs", "no signs"])
@pytest.mark.parametrize("kind", [*KINDS, SphericalTensor(2)], ids=str)
def test_frames_with_a_scale_are_taken_by_their_matrices(kind, signs, rng):
    frames = pca_frames(separated(rng, 2, 6), "Similarity(3)")
    frames = frames if signs else frames._replace(signs=None)
    values = (
        values_of(kind, rng, 2, 5)
        if not isinstance(kind, SphericalTensor)
        else (torch.randn(2, 5, 9, 4, dtype=torch.float64, generator=rng))
    )
    inside = to_frames(values, kind, frames)
    torch.testing.assert_close(from_frames(inside, kind, frames), values)
    for k in range(8):
        matrix = frames.frames[:, k]
        translation = frames.centroid if kind.contains(Point) else None
        back = kind.act(Element(matrix=matrix, translation=translation), inside[k])
        torch.testing.assert_close(back, values)


def test_weights_of_frames_are_those_of_the_average(rng):
    frames = pca_frames(separated(rng, 2, 5), "SE(3)")
    weights = torch.rand(2, 4, dtype=torch.float64, generator=rng)
    weights = weights / weights.sum(-1, keepdim=True)
    inside = torch.randn(4, 2, 5, 3, dtype=torch.float64, generator=rng)
    expected = torch.einsum("bf,fbnj,bfij->bni", weights, inside, frames.frames)
    weighted = frames._replace(weights=weights)
    for found in (weighted, weighted._replace(signs=None)):
        torch.testing.assert_close(from_frames(inside, Vector(), found), expected)
    mean = torch.einsum("bf,fbnj->bnj", weights, inside)
    torch.testing.assert_close(from_frames(inside, Scalar(), weighted), mean)


@pytest.mark.parametrize("group", GROUPS)
def test_ragged_rows_are_expressed_in_the_frames_of_their_graph(group, rng):
    batch = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2, 2])
    points = separated(rng, 9, dimension=int(group[-2]))
    frames = pca_frames(points, group, batch=batch, num_graphs=3)
    for kind in (Point(), Pseudovector()):
        inside = to_frames(points, kind, frames, batch)
        for graph in (0, 2):
            alone = Frames(*(part[graph] for part in frames[:3]), signs=frames.signs)
            torch.testing.assert_close(
                inside[:, batch == graph], to_frames(points[batch == graph], kind, alone)
            )


def test_derivatives_are_right(rng):
    points = separated(rng, 2, 5).requires_grad_()
    vectors = torch.randn(2, 4, 3, dtype=torch.float64, generator=rng).requires_grad_()

    def outputs(points, vectors):
        frames = pca_frames(points, "SE(3)")
        inside = to_frames(points, Point(), frames).square().mean(0)
        return inside, from_frames(to_frames(vectors, Vector(), frames).tanh(), Vector(), frames)

    assert gradcheck(outputs, (points, vectors))


def test_numbers_that_do_not_rotate_keep_their_dtype(rng):
    frames = pca_frames(separated(rng, 2, 5), "E(3)")
    for numbers in (torch.arange(10).reshape(2, 5), torch.ones(2, 5) > 0):
        assert to_frames(numbers, Scalar(), frames).dtype == numbers.dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_higher_precision_of_values_and_frames_is_used(dtype, rng):
    points = separated(rng, 2, 5, dtype=torch.float32)
    frames = pca_frames(points)
    values = points.to(dtype)
    inside = to_frames(values, Vector(), frames)
    exact = to_frames(values.float(), Vector(), frames)
    assert inside.dtype == dtype
    torch.testing.assert_close(inside, exact.to(dtype), rtol=1e-5, atol=1e-5)
    assert from_frames(inside, Vector(), frames).dtype == torch.promote_types(dtype, torch.float32)


def test_autocast_does_not_round_rotations(rng):
    points = separated(rng, 2, 5, dtype=torch.float32)
    frames = pca_frames(points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        there = to_frames(points, Point(), frames)
        back = from_frames(there, Point(), frames)
        # control: a product under autocast is rounded
        assert (points @ frames.axes).dtype == torch.bfloat16
    torch.testing.assert_close(there, to_frames(points, Point(), frames), rtol=0, atol=0)
    torch.testing.assert_close(back, points, rtol=1e-6, atol=1e-6)


@pytest.mark.unchecked
def test_wrong_arguments_are_refused(rng):
    frames = pca_frames(separated(rng, 2, 5), "SE(3)")
    batch = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"values: Vector\(\) needs floating-point"):
        to_frames(torch.zeros(2, 5, 3).long(), Vector(), frames)
    with pytest.raises(ValueError, match=r"values: expected shape \(..., 3\) for Vector\(\)"):
        to_frames(torch.zeros(2, 5, 2), Vector(), frames)
    with pytest.raises(ValueError, match=r"expected shape \(2, ...\), the batch of the frames"):
        to_frames(torch.zeros(5, 3), Vector(), frames)
    with pytest.raises(ValueError, match=r"\(4, ...\), one row per entry of batch, got \(5, 3\)"):
        to_frames(torch.zeros(5, 3), Vector(), frames, batch)
    with pytest.raises(ValueError, match="frames: got 3 for each cloud, but signs for 4"):
        to_frames(torch.zeros(2, 5, 3), Vector(), frames._replace(frames=frames.frames[:, :3]))
    with pytest.raises(ValueError, match=r"one copy for each of the 4 frames, got shape \(8, 2, 3"):
        from_frames(torch.zeros(8, 2, 3), Vector(), frames)
    with pytest.raises(TypeError, match="expected floating-point numbers to average"):
        from_frames(torch.zeros(4, 2).long(), Scalar(), frames)
