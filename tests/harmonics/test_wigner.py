"""Wigner matrices: against e3nn's angles, the harmonics themselves, and the laws of a group."""

import math

import pytest
import torch
from e3nn import o3
from torch.autograd import gradcheck, gradgradcheck

from eqlib.harmonics import spherical_harmonics, wigner_d
from eqlib.harmonics.wigner import fit_points
from eqlib.symmetry import SO, O
from tests.tolerances import EQUIVARIANCE


def split(values, lmax):
    return values.split([2 * degree + 1 for degree in range(lmax + 1)], dim=-1)


def largest(matrices, others):
    return max((a - b).abs().max().item() for a, b in zip(matrices, others, strict=True))


def turned(angles):
    """Rotations about the vectors ``angles``, by a series of their own."""
    x, y, z = angles.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return torch.linalg.matrix_exp(torch.stack(rows, -2))


@pytest.mark.parametrize(
    ("lmax", "bound"), [(0, 1e-15), (1, 1e-14), (3, 1e-13), (12, 1e-12), (30, 1e-10)]
)
@pytest.mark.parametrize("kind", ["rotation", "reflection"])
def test_harmonics_rotate_with_the_matrices(kind, lmax, bound, rng):
    rotation = O(3).sample(rng, 5, kinds=[kind]).matrix
    vectors = torch.randn(20, 3, dtype=torch.float64, generator=rng)
    values = split(spherical_harmonics(vectors, lmax), lmax)
    rotated = split(spherical_harmonics(vectors @ rotation.mT, lmax), lmax)
    matrices = wigner_d(rotation, lmax)
    assert len(matrices) == lmax + 1
    assert largest([y @ D.mT for D, y in zip(matrices, values, strict=True)], rotated) < bound
    if lmax > 0:
        # control: the transposed matrices are those of the inverse rotation
        assert largest([y @ D for D, y in zip(matrices, values, strict=True)], rotated) > 0.1


def test_matrices_are_those_of_e3nn(rng):
    alpha, beta, gamma = torch.rand(3, 5, dtype=torch.float64, generator=rng) * 3
    rotation = o3.angles_to_matrix(alpha, beta, gamma)
    for degree, matrix in enumerate(wigner_d(rotation, 10)):
        expected = o3.wigner_D(degree, alpha, beta, gamma)
        # e3nn's generators are float32 beyond degree 0
        assert (matrix - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("lmax", "bound"), [(12, 1e-12), (30, 1e-10)])
def test_matrices_are_orthogonal_and_compose(lmax, bound, rng):
    one, two = SO(3).sample(rng, 2).matrix
    first, second, both = (wigner_d(R, lmax) for R in (one, two, one @ two))
    assert largest([a @ b for a, b in zip(first, second, strict=True)], both) < bound
    identity = [torch.eye(2 * degree + 1, dtype=torch.float64) for degree in range(lmax + 1)]
    assert largest([a @ a.mT for a in first], identity) < bound
    assert largest(wigner_d(torch.eye(3, dtype=torch.float64), lmax), identity) < bound
    # control: in the other order it is another rotation
    assert largest([b @ a for a, b in zip(first, second, strict=True)], both) > 0.1


@pytest.mark.parametrize("lmax", [2, 3, 4, 5, 6, 7, 8, 12, 20, 30])
def test_the_fit_is_well_conditioned(lmax):
    values = spherical_harmonics(torch.tensor(fit_points(lmax)).T.contiguous(), lmax)
    assert max(torch.linalg.cond(part) for part in split(values, lmax)) < 6


def test_matrices_keep_their_digits_near_the_polar_axis():
    angle = torch.tensor([1e-9, 0.0, 0.0], dtype=torch.float64)
    first = wigner_d(turned(angle), 2)[2] - torch.eye(5, dtype=torch.float64)
    assert first.abs().max() == pytest.approx(math.sqrt(3) * 1e-9, rel=2e-6)


def test_natural_parity_of_improper_rotations(rng):
    rotation = SO(3).sample(rng, 1).matrix
    for degree, (proper, improper) in enumerate(
        zip(wigner_d(rotation, 5), wigner_d(-rotation, 5), strict=True)
    ):
        torch.testing.assert_close(improper, (-1) ** degree * proper, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
def test_every_dtype_against_float64(dtype, rng):
    rotation = SO(3).sample(rng, 10).matrix
    result = wigner_d(rotation.to(dtype), 6)
    assert all(matrix.dtype == dtype for matrix in result)
    error = largest([D.double() for D in result], wigner_d(rotation, 6))
    # A rotation that is rounded turns degree 6 six times as far.
    assert error < 10 * EQUIVARIANCE[dtype]


@pytest.mark.parametrize("angles", [[0.3, -1.2, 0.5], [0.0, 0.0, 0.0], [0.0, 0.7, 0.0]], ids=str)
def test_derivatives(angles):
    angles = torch.tensor([angles], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: tuple(wigner_d(turned(x), 4)), angles)
    assert gradgradcheck(lambda x: tuple(wigner_d(turned(x), 3)), angles)


def test_derivative_at_the_identity_is_a_generator():
    zero = torch.zeros(3, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda x: wigner_d(turned(x), 5)[5])(zero)
    # Casimir: the squares of the generators sum to -l (l + 1)
    squares = torch.einsum("ijk,jmk->im", jacobian, jacobian)
    torch.testing.assert_close(squares, -30 * torch.eye(11, dtype=torch.float64))


@pytest.mark.parametrize("batch", [(), (0,), (2, 0), (2, 3)], ids=str)
def test_any_batch(batch, rng):
    rotation = SO(3).sample(rng, math.prod(batch)).matrix.reshape(*batch, 3, 3)
    for degree, matrix in enumerate(wigner_d(rotation, 4)):
        assert matrix.shape == (*batch, 2 * degree + 1, 2 * degree + 1)
        assert matrix.is_contiguous()


def test_any_strides(rng):
    rotation = SO(3).sample(rng, 4).matrix
    for view in (rotation.mT, rotation[:1].expand(4, 3, 3), rotation[::2]):
        assert largest(wigner_d(view, 3), wigner_d(view.contiguous(), 3)) < 1e-14


def test_degree_one_is_a_copy_of_the_rotation(rng):
    rotation = SO(3).sample(rng, 2).matrix
    first = wigner_d(rotation, 1)[1]
    assert torch.equal(first, rotation)
    first.zero_()
    assert rotation.abs().max() > 0.1


def test_one_bad_rotation_leaves_the_others_exact(rng):
    rotation = SO(3).sample(rng, 3).matrix
    bad = rotation.clone()
    bad[1, 0, 0] = torch.nan
    for clean, dirty in zip(wigner_d(rotation, 4)[1:], wigner_d(bad, 4)[1:], strict=True):
        torch.testing.assert_close(dirty[::2], clean[::2], rtol=0, atol=1e-15)
        assert dirty[1].isnan().any()


def test_autocast_changes_nothing(rng):
    rotation = SO(3).sample(rng, 3).matrix.float()
    with torch.autocast("cpu", torch.bfloat16):
        result = wigner_d(rotation, 4)
    assert largest(result, wigner_d(rotation, 4)) == 0


@pytest.mark.unchecked
def test_compiles(rng):
    torch.compiler.reset()
    compiled = torch.compile(wigner_d, fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (3, 5):
        rotation = SO(3).sample(rng, count).matrix.requires_grad_()
        results = [function(rotation, 2) for function in (wigner_d, compiled)]
        assert largest(*results) < 1e-14
        slopes = [
            torch.autograd.grad(sum(D.pow(3).sum() for D in result), rotation)[0]
            for result in results
        ]
        torch.testing.assert_close(*slopes, rtol=0, atol=1e-12)


@pytest.mark.unchecked
def test_compiles_beside_harmonics_and_exports(rng):
    class Layer(torch.nn.Module):
        def forward(self, rotation, vectors):
            one, two = spherical_harmonics(vectors, 2), spherical_harmonics(vectors, 1)
            return wigner_d(rotation, 2)[2] @ one[..., 4:, None], two

    batch = torch.export.Dim("batch")
    examples = [(SO(3).sample(rng, n).matrix, torch.randn(n, 3).double()) for n in (4, 7)]
    program = torch.export.export(
        Layer(), examples[0], dynamic_shapes=({0: batch}, {0: batch}), strict=True
    )
    assert largest(program.module()(*examples[1]), Layer()(*examples[1])) < 1e-14


def test_works_under_vmap(rng):
    rotation = SO(3).sample(rng, 4).matrix
    mapped = torch.func.vmap(lambda matrix: wigner_d(matrix, 3))(rotation)
    assert largest(mapped, wigner_d(rotation, 3)) < 1e-14


@pytest.mark.gpu
def test_on_a_gpu(rng):
    rotation = SO(3).sample(rng, 10).matrix
    result = [matrix.cpu() for matrix in wigner_d(rotation.cuda(), 6)]
    assert largest(result, wigner_d(rotation, 6)) < 1e-13


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("rotation", "lmax", "error", "message"),
    [
        (torch.eye(3).long(), 2, TypeError, "rotation has dtype torch.int64"),
        (
            torch.ones(2, 3),
            2,
            ValueError,
            r"shape \(2, 3\); expected \(\.\.\., 3, 3\)",
        ),
        (torch.eye(2), 2, ValueError, r"rotation has shape \(2, 2\)"),
        (torch.eye(3), -1, ValueError, "lmax is -1; expected a degree of at least 0"),
        (torch.eye(3), "2", TypeError, "lmax is '2'; expected a whole number"),
    ],
    ids=["integers", "vectors", "plane", "negative", "text"],
)
def test_bad_input_is_refused(rotation, lmax, error, message):
    with pytest.raises(error, match=message):
        wigner_d(rotation, lmax)
