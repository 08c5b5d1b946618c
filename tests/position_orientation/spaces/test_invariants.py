"""Invariants of pairs: no motion changes them, nothing else has the same, and they are smooth."""

import math

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.autograd.functional import hessian, jacobian
from torch.export import Dim, export
from torch.testing import assert_close

from eqlib.position_orientation.spaces.invariants import count_invariants, pair_invariants
from eqlib.position_orientation.spaces.space import as_space
from eqlib.symmetry import TOLERANCE

CASES = [
    ("R2", "SE(2)", "complete", False, 1),
    ("R3", "E(3)", "complete", False, 1),
    ("R2", "SE(2)", "ponita", False, 1),
    ("R2xS1", "SE(2)", "complete", False, 4),
    ("R2xS1", "E(2)", "complete", False, 4),
    ("R2xS1", "SE(2)", "ponita", False, 3),
    ("R2xS1", "E(2)", "ponita", False, 3),
    ("R2xS1", "SE(2)", "complete", True, 5),
    ("R2xS1", "E(2)", "complete", True, 4),
    ("SE2", "SE(2)", "complete", False, 4),
    ("R3xS2", "SE(3)", "complete", False, 5),
    ("R3xS2", "E(3)", "complete", False, 4),
    ("R3xS2", "SE(3)", "ponita", False, 3),
    ("R3xS2", "E(3)", "ponita", False, 3),
    ("R3xS2", "SE(3)", "complete", True, 7),
    ("R3xS2", "E(3)", "complete", True, 5),
    ("SE3", "SE(3)", "complete", False, 12),
]
cases = pytest.mark.parametrize(("space", "group", "invariants", "axial", "count"), CASES)


def draw(space, rng, *shape, dtype=torch.float64):
    """Offsets and two orientations at random."""
    space = as_space(space)
    offset = torch.randn(*shape, space.dimension, dtype=torch.float64, generator=rng)
    if space.kind == "frames":
        q, _ = torch.linalg.qr(torch.randn(2, *shape, 3, 3, dtype=torch.float64, generator=rng))
        pair = q * torch.linalg.det(q)[..., None, None]
    else:
        pair = torch.randn(2, *shape, *space.orientation_shape, dtype=torch.float64, generator=rng)
        if pair.numel():
            pair = torch.nn.functional.normalize(pair, dim=-1)
    return offset.to(dtype), pair[0].to(dtype), pair[1].to(dtype)


def moved(space, matrix, offset, *orientations):
    """A pair after a motion."""
    kind = as_space(space).kind
    if kind == "frames":
        turned = [matrix @ orientation for orientation in orientations]
    elif kind == "directions":
        turned = [orientation @ matrix.mT for orientation in orientations]
    else:
        turned = list(orientations)
    return offset @ matrix.mT, *turned


@cases
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_motions_do_not_change_them(space, group, invariants, axial, count, dtype, rng):
    options = {"space": space, "group": group, "invariants": invariants, "axial": axial}
    pair = draw(space, rng, 50, dtype=dtype)
    values = pair_invariants(*pair, **options)
    assert values.shape == (50, count)
    assert count_invariants(space, invariants, group, axial) == count
    kinds = ["rotation", "reflection" if group[0] == "E" else "rotation"]
    for matrix in as_space(space).group(group).sample(rng, 2, kinds=kinds).matrix.to(dtype):
        other = pair_invariants(*moved(space, matrix, *pair), **options)
        assert (other - values).norm() < TOLERANCE[dtype] * values.norm()
        # control: a motion of one of the two points alone changes them
        broken = (moved(space, matrix, *pair)[0] + 0.5, *pair[1:])
        assert (pair_invariants(*broken, **options) - values).norm() > 1e-2 * values.norm()


@pytest.mark.parametrize("space", ["R2xS1", "R3xS2"])
def test_control_handed_ones_change_under_reflections(space, rng):
    n = as_space(space).dimension
    pair = draw(space, rng, 50)
    mirror = torch.diag(torch.tensor([-1.0] + [1.0] * (n - 1), dtype=torch.float64))
    reflected = moved(space, mirror, *pair)
    handed = [pair_invariants(*values, space=space) for values in (pair, reflected)]
    assert (handed[0] - handed[1]).abs().max() > 0.1
    plain = [pair_invariants(*values, space=space, group=f"E({n})") for values in (pair, reflected)]
    assert_close(*plain)


def published_example(azimuth):
    """The pair of which the published invariants forget the azimuth of the second orientation."""
    r = torch.tensor([1.0, 0.0, 0.3], dtype=torch.float64)
    polar = 0.8
    second = [
        math.sin(polar) * math.cos(azimuth),
        math.sin(polar) * math.sin(azimuth),
        math.cos(polar),
    ]
    first = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return r, first, torch.tensor(second, dtype=torch.float64)


def test_the_published_ones_forget_an_angle_that_the_complete_ones_see():
    pairs = [published_example(azimuth) for azimuth in (0.0, 1.0, 2.0, -1.0)]
    short = [pair_invariants(*pair, invariants="ponita", softening=1e-9) for pair in pairs]
    for values in short:
        assert_close(values, torch.tensor([0.3, 1.0, math.cos(0.8)], dtype=torch.float64))
    complete = torch.stack([pair_invariants(*pair) for pair in pairs])
    expected = torch.tensor([0.926, 0.597, -0.090, 0.597], dtype=torch.float64)
    assert (complete[:, 1] - expected).abs().max() < 1e-3
    # Opposite azimuths are mirror images: only the determinant tells them apart.
    assert_close(complete[1, :4], complete[3, :4])
    assert_close(complete[1, 4], -complete[3, 4])
    assert abs(complete[1, 4].abs() - 0.604) < 1e-3
    without = [pair_invariants(*pair, group="E(3)") for pair in (pairs[1], pairs[3])]
    assert_close(*without)


@pytest.mark.parametrize(
    ("space", "group", "rank"),
    [
        ("R2", "SE(2)", 1),
        ("R3", "SE(3)", 1),
        ("R2xS1", "SE(2)", 3),
        ("R2xS1", "E(2)", 3),
        ("R3xS2", "SE(3)", 4),
        ("R3xS2", "E(3)", 4),
        ("SE3", "SE(3)", 6),
    ],
)
@pytest.mark.parametrize("axial", [False, True], ids=["directed", "axial"])
def test_they_see_every_change_that_is_no_motion(space, group, rank, axial, rng):
    """The rank of the Jacobian at random pairs is the number of changes that are no motion."""
    if axial and as_space(space).kind != "directions":
        axial = False
    pair = draw(space, rng)

    def evaluate(*values):
        return pair_invariants(*values, space=space, group=group, axial=axial)

    blocks = [
        (block.flatten(1) @ tangent(value, space))
        for block, value in zip(jacobian(evaluate, pair), pair, strict=True)
        if value.numel()
    ]
    singular = torch.linalg.svdvals(torch.cat(blocks, dim=1))
    assert (singular > 1e-6).sum() == rank
    if space == "R3xS2" and not axial:  # control: the published ones have one fewer
        blocks = [
            block.flatten(1) @ tangent(value, space)
            for block, value in zip(
                jacobian(lambda *v: pair_invariants(*v, invariants="ponita"), pair),
                pair,
                strict=True,
            )
        ]
        assert (torch.linalg.svdvals(torch.cat(blocks, dim=1)) > 1e-6).sum() == rank - 1


def tangent(value, space):
    """Directions in which an argument may change: offsets freely, orientations by rotations."""
    n = as_space(space).dimension
    if value.shape == (n,) and abs(value.norm() - 1) > 1e-9:
        return torch.eye(n, dtype=value.dtype)
    if value.ndim == 2:
        generators = torch.linalg.cross(
            torch.eye(3, dtype=value.dtype)[:, :, None], value.expand(3, 3, 3), dim=1
        )
        return generators.flatten(1).T
    return torch.eye(n, dtype=value.dtype) - value[:, None] * value


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_pairs_with_the_same_invariants_are_related_by_a_motion(group, rng):
    """The Gram matrix of the three vectors follows from the invariants, and so the pair."""
    offset, first, second = draw("R3xS2", rng, 200)
    values = pair_invariants(offset, first, second, group=group, softening=1e-12)
    along, other, length, cosine = values[:, :4].unbind(-1)
    gram = torch.stack([offset, first, second], dim=1) @ torch.stack([offset, first, second], dim=2)
    one = torch.ones_like(cosine)
    rows = [[length**2, along, other], [along, one, cosine], [other, cosine, one]]
    assert_close(torch.stack([torch.stack(row, -1) for row in rows], -2), gram)
    if group == "SE(3)":
        assert_close(values[:, 4].square(), torch.linalg.det(gram))
        vectors = torch.stack([offset, first, second], dim=1)
        assert_close(values[:, 4], torch.linalg.det(vectors))


@pytest.mark.parametrize("space", ["R2xS1", "R3xS2"])
@pytest.mark.parametrize("handed", [True, False], ids=["SE", "E"])
def test_axial_ones_ignore_the_sign_of_each_orientation(space, handed, rng):
    group = f"{'SE' if handed else 'E'}({as_space(space).dimension})"
    offset, first, second = draw(space, rng, 20)
    options = {"space": space, "group": group}
    expected = pair_invariants(offset, first, second, axial=True, **options)
    for one, two in ((-1, 1), (1, -1), (-1, -1)):
        found = pair_invariants(offset, one * first, two * second, axial=True, **options)
        assert_close(found, expected)
        # control: those of directions change
        directed = pair_invariants(offset, one * first, two * second, **options)
        plain = pair_invariants(offset, first, second, **options)
        assert (directed - plain).abs().max() > 0.1


def test_axial_ones_tell_pairs_of_axes_apart(rng):
    """Of two pairs that differ, one takes no choice of signs to the invariants of the other."""
    pairs = [draw("R3xS2", rng, 30) for _ in range(2)]
    values = [pair_invariants(*pair, axial=True, softening=1e-12) for pair in pairs]
    # The directed invariants up to sign, from the axial ones alone.
    for pair, value in zip(pairs, values, strict=True):
        squares = pair_invariants(*pair, softening=1e-12)[:, [0, 1, 3]].square()
        assert_close(value[:, [0, 1, 3]], squares)
        product = pair_invariants(*pair, softening=1e-12)[:, [0, 1, 3]].prod(-1)
        assert_close(value[:, 4], product)
    # Mirror images are told apart.
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    image = pair_invariants(*moved("R3xS2", mirror, *pairs[0]), axial=True)
    assert_close(image[:, :5], pair_invariants(*pairs[0], axial=True)[:, :5])
    assert_close(image[:, 5:], -pair_invariants(*pairs[0], axial=True)[:, 5:])


@cases
def test_derivatives(space, group, invariants, axial, count, rng):
    offset, first, second = draw(space, rng, 3)
    arguments = [
        value.requires_grad_() if value.numel() else value for value in (offset, first, second)
    ]

    def evaluate(*values):
        return pair_invariants(
            *values, space=space, group=group, invariants=invariants, axial=axial
        )

    assert gradcheck(evaluate, arguments)
    assert gradgradcheck(evaluate, arguments)


def degenerate_pairs(space):
    """Coincident points, offsets along an orientation, equal and opposite orientations."""
    space = as_space(space)
    n = space.dimension
    unit = torch.eye(n, dtype=torch.float64)
    if space.kind == "positions":
        return [(scale * unit[0], torch.zeros(0), torch.zeros(0)) for scale in (0.0, 1.0, 1e6)]
    orientation = unit if space.kind == "frames" else unit[0]
    flipped = unit * (torch.tensor([-1.0] * 2 + [1.0] * (n - 2)) if space.kind == "frames" else -1)
    flipped = flipped if space.kind == "frames" else flipped[0]
    offsets = [0 * unit[0], unit[0], -unit[0], unit[1], 1e6 * unit[0], 1e-300 * unit[1]]
    return [(r, orientation, other) for r in offsets for other in (orientation, flipped)]


@cases
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_first_and_second_derivatives_are_finite(space, group, invariants, axial, count, dtype):
    for pair in degenerate_pairs(space):
        arguments = tuple(value.to(dtype) for value in pair if value.numel())
        empty = [value.to(dtype) for value in pair if not value.numel()]

        def evaluate(*values, empty=empty):
            return pair_invariants(
                *values, *empty, space=space, group=group, invariants=invariants, axial=axial
            ).sum()

        assert evaluate(*arguments).isfinite()
        for first in jacobian(evaluate, arguments):
            assert first.isfinite().all()
        for row in hessian(evaluate, arguments):
            for second in row:
                assert second.isfinite().all()


def test_softened_lengths_grow_with_the_length_and_are_even_at_zero():
    r = torch.linspace(0, 3, 301, dtype=torch.float64)
    offset = torch.stack([r, 0 * r, 0 * r], dim=-1).requires_grad_()
    none = torch.zeros(301, 0, dtype=torch.float64)
    values = pair_invariants(offset, none, none, space="R3", softening=0.2)[:, 0]
    assert (values.diff() > 0).all()
    assert_close(values, (r**2 + 0.04).sqrt() - 0.2, atol=1e-15, rtol=1e-12)
    (slope,) = grad(values.sum(), offset)
    assert slope[0].abs().max() == 0


def test_the_distance_from_the_line_of_an_orientation_does_not_cancel():
    """Nearly parallel, far away, in float32: the difference of squares would be all rounding."""
    r = torch.tensor([1e6, 1.0, 0.0])
    o = torch.tensor([1.0, 0.0, 0.0])
    values = pair_invariants(r, o, o, invariants="ponita", softening=1e-3)
    assert abs(values[1] - 0.999) < 1e-3
    # control: the difference of squares
    assert (r.square().sum() - (r @ o) ** 2).abs() == 0


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype_matches_float64(space, group, invariants, axial, count, dtype, rng):
    pair = draw(space, rng, 40, dtype=dtype)
    options = {"space": space, "group": group, "invariants": invariants, "axial": axial}
    found = pair_invariants(*pair, **options)
    expected = pair_invariants(*(value.double() for value in pair), **options)
    assert found.dtype == dtype
    tolerance = max(2e-6, torch.finfo(dtype).eps)  # half precision is rounded once
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def test_leading_axes_are_broadcast(rng):
    offset, _, _ = draw("R3xS2", rng, 7, 1)
    _, first, second = draw("R3xS2", rng, 5)
    values = pair_invariants(offset, first, second)
    assert values.shape == (7, 5, 5)
    assert_close(values[3, 2], pair_invariants(offset[3, 0], first[2], second[2]))
    assert pair_invariants(offset[:0], first, second).shape == (0, 5, 5)
    swapped = pair_invariants(offset.transpose(0, 1), first[:, None], second[:, None])
    assert_close(swapped, values.transpose(0, 1))


@pytest.mark.unchecked
@pytest.mark.parametrize("space", ["R2", "R2xS1", "R3xS2", "SE3"])
def test_compiles_and_exports(space, rng):
    torch._dynamo.reset()

    class Invariants(torch.nn.Module):
        def forward(self, offset, first, second):
            return pair_invariants(offset, first, second, space=space)

    module = Invariants()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for edges in (3, 8):
        pair = draw(space, rng, edges)
        assert_close(compiled(*pair), module(*pair))
    edges = Dim("edges")
    shapes = ({0: edges}, {0: edges}, {0: edges})
    program = export(module, draw(space, rng, 3), dynamic_shapes=shapes)
    pair = draw(space, rng, 6)
    assert_close(program.module()(*pair), module(*pair))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"invariants": "all"}, ValueError, "invariants: expected 'complete' or 'ponita', got"),
        ({"softening": 0.0}, ValueError, "softening: expected a positive length, got 0.0"),
        ({"space": "R2xS1"}, ValueError, r"offset: R2xS1 expects shape \(..., 2\), got \(4, 3\)"),
        ({"space": "SE3"}, ValueError, r"target_orientation: SE3 expects shape \(..., 3, 3\), got"),
        ({"space": "R3", "axial": True}, ValueError, "target_orientation: R3 expects"),
        ({"invariants": "ponita", "axial": True}, ValueError, "'ponita' has none for axes; use"),
        ({"group": "SE(2)"}, ValueError, "group: R3xS2 has"),
    ],
    ids=range(7),
)
def test_wrong_arguments_are_refused(options, error, message, rng):
    with pytest.raises(error, match=message):
        pair_invariants(*draw("R3xS2", rng, 4), **options)


@pytest.mark.unchecked
def test_wrong_choices_for_rotations_and_positions_are_refused(rng):
    with pytest.raises(ValueError, match="'ponita' has none for SE3; use invariants='complete'"):
        pair_invariants(*draw("SE3", rng, 4), space="SE3", invariants="ponita")
    with pytest.raises(ValueError, match="axial: orientations of SE3 are no directions; use R2xS1"):
        pair_invariants(*draw("SE3", rng, 4), space="SE3", axial=True)
    with pytest.raises(ValueError, match="axial: orientations of R2 are no directions; use R2xS1"):
        pair_invariants(*draw("R2", rng, 4), space="R2", axial=True)
    with pytest.raises(TypeError, match=r"offset: expected floating-point numbers, got torch.int"):
        pair_invariants(torch.zeros(3, dtype=torch.int64), torch.zeros(3), torch.zeros(3))


@pytest.mark.gpu
@cases
def test_cuda_matches_the_cpu(space, group, invariants, axial, count, rng):
    pair = draw(space, rng, 20)
    options = {"space": space, "group": group, "invariants": invariants, "axial": axial}
    found = pair_invariants(*(value.cuda() for value in pair), **options)
    assert_close(found.cpu(), pair_invariants(*pair, **options))
