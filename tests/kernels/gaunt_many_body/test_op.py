"""The operation against sums over grids, its derivatives and its contract with torch."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.harmonics import (
    gauss_legendre_grid,
    spherical_harmonics,
    spherical_harmonics_gradient,
    tangent_frames,
)
from eqlib.kernels.gaunt_many_body import blocked, gaunt_many_body
from eqlib.kernels.gaunt_many_body.terms import Term, derivative, encode, nested, polynomials

implementations = pytest.mark.parametrize("implementation", ["naive", "blocked", "auto"])

# Fields: 0 and 1 functions, 2 a constant. Variables 3 * field + slot.
POLYNOMIALS = {
    "cubic": [Term(1, 0, (0, 0, 0, 6)), Term(-2, 0, (0, 3)), Term(1, 0, (3,))],
    "bracket": [Term(1, 0, (1, 5, 0)), Term(-1, 0, (2, 4, 0)), Term(3, 3, (0, 0, 6, 6))],
    "slots": [Term(1, 1, (0, 3)), Term(-1, 2, (2, 6)), Term(1, 3, (6,))],
}
polynomials_by_name = pytest.mark.parametrize("name", list(POLYNOMIALS))


def grid(degree, lmax=2):
    """Harmonics and slopes on a grid, and its weights."""
    points, weights, _ = gauss_legendre_grid(degree)
    slopes = tangent_frames(points) @ spherical_harmonics_gradient(points, lmax).mT
    return torch.stack([spherical_harmonics(points, lmax), *slopes.unbind(-2)]), weights


def fields(rng, nodes=3, channels=2, dtype=torch.float64):
    """Functions of degree 2 and 1, and a constant."""
    return [
        torch.randn(nodes, size, channels, dtype=torch.float64, generator=rng).to(dtype)
        for size in (9, 4, 1)
    ]


def expected(name, x, tables, weights, outputs=(9, 4)):
    """The definition, point by point."""
    values = [torch.einsum("jgs,nsc->jngc", tables[..., : f.shape[1]], f) for f in x]
    found = [torch.zeros(len(x[0]), size, x[0].shape[2], dtype=torch.float64) for size in outputs]
    for scale, target, factors in POLYNOMIALS[name]:
        density = scale * torch.ones_like(values[0][0])
        for variable in factors:
            density = density * values[variable // 3][variable % 3]
        table = tables[target % 3][:, : outputs[target // 3]]
        found[target // 3] += torch.einsum("g,gs,ngc->nsc", weights, table, density)
    return found


@implementations
@polynomials_by_name
@pytest.mark.parametrize("values", [1, 500, 1 << 19], ids=["single-rows", "few-rows", "one-block"])
def test_values_are_sums_over_the_grid(implementation, name, values, monkeypatch, rng):
    monkeypatch.setattr(blocked, "CPU_VALUES", values)
    tables, weights = grid(8)
    x = fields(rng, nodes=7)
    terms = encode(POLYNOMIALS[name])
    found = gaunt_many_body(x, tables, weights, terms, [9, 4], implementation)
    for result, value in zip(found, expected(name, x, tables, weights), strict=True):
        torch.testing.assert_close(result, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("implementation", ["naive", "blocked"])
@polynomials_by_name
def test_derivatives_of_first_and_second_order(implementation, name, rng):
    tables, weights = grid(6)
    x = [field.requires_grad_() for field in fields(rng, nodes=2, channels=1)]
    terms = encode(POLYNOMIALS[name])

    def function(*x):
        return tuple(gaunt_many_body([*x], tables, weights, terms, [9, 4], implementation))

    assert gradcheck(function, x)
    assert gradgradcheck(function, x)


@pytest.mark.parametrize(
    ("name", "needed"), [("cubic", (0,)), ("bracket", (0, 1, 2)), ("slots", (1, 2))], ids=str
)
def test_torch_finds_no_fault(name, needed, rng):
    tables, weights = grid(6)
    x = [field.requires_grad_(k in needed) for k, field in enumerate(fields(rng))]
    arguments = (x, tables, weights, encode(POLYNOMIALS[name]), [9, 4], "blocked")
    torch.library.opcheck(torch.ops.eqlib.gaunt_many_body.default, arguments)


@implementations
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 5e-6), (torch.bfloat16, 8e-3), (torch.float16, 2e-3)],
    ids=["float32", "bfloat16", "float16"],
)
def test_lower_precision_rounds_once(implementation, dtype, tolerance, rng):
    tables, weights = grid(8)
    x = fields(rng, nodes=50, dtype=dtype)
    terms = encode(POLYNOMIALS["cubic"])
    found, _ = gaunt_many_body(x, tables, weights, terms, [9, 4], implementation)
    exact, _ = expected("cubic", [f.double() for f in x], tables, weights)
    assert found.dtype == dtype
    assert (found - exact).abs().max() <= tolerance * exact.abs().max()


@implementations
def test_empty_and_strided_fields(implementation, rng):
    tables, weights = grid(8)
    terms = encode(POLYNOMIALS["cubic"])
    empty = [field[:0] for field in fields(rng)]
    shapes = [
        z.shape for z in gaunt_many_body(empty, tables, weights, terms, [9, 4], implementation)
    ]
    assert shapes == [(0, 9, 2), (0, 4, 2)]
    x = fields(rng, nodes=6, channels=4)
    x[2] = x[2][:1].expand(6, 1, 4)
    strided = [field[::2, :, 1:3] for field in x]
    result = gaunt_many_body(strided, tables, weights, terms, [9, 4], implementation)
    copies = [field.contiguous() for field in strided]
    torch.testing.assert_close(
        result, gaunt_many_body(copies, tables, weights, terms, [9, 4], implementation)
    )


@implementations
def test_a_row_with_nan_leaves_other_rows_alone(implementation, rng):
    tables, weights = grid(8)
    terms = encode(POLYNOMIALS["cubic"])
    x = fields(rng)
    before = gaunt_many_body(x, tables, weights, terms, [9], implementation)[0]
    x[0][1, 0, 0] = torch.nan
    after = gaunt_many_body(x, tables, weights, terms, [9], implementation)[0]
    assert after[1, :, 0].isnan().all()
    after[1, :, 0] = before[1, :, 0]
    assert torch.equal(after, before)


def test_terms_that_cancel_leave_zero(rng):
    tables, weights = grid(6)
    terms = encode([Term(2, 0, (0, 3)), Term(-2, 0, (3, 0))])
    for implementation in ("naive", "blocked"):
        found = gaunt_many_body(fields(rng), tables, weights, terms, [9], implementation)[0]
        assert found.shape == (3, 9, 2)
        assert not found.any()


def test_a_cubic_is_nested_as_horner_does():
    polynomial = polynomials(tuple(encode([Term(2, 0, (0,) * n + (3 * n,)) for n in (1, 2, 3)])))[0]
    scale, variable, inside, outside = nested(polynomial, frozenset({3, 6, 9}))
    assert (scale, variable, outside) == (2, 0, 0)
    assert inside.outside == nested((((3,), 1),), frozenset({3, 6, 9}))
    assert inside.variable == inside.inside.variable == 0


def test_the_derivative_of_a_power():
    terms = derivative(tuple(encode([Term(1, 0, (0, 0, 0, 3))])), 2, (0, 1))
    assert sorted([terms[:7], terms[7:]]) == [[4, 1, 3, 0, 0, 0, 6], [4, 3, 0, 0, 0, 3, 6]]


def wrong(x, **changes):
    tables, weights = grid(6)
    arguments = {
        "fields": x,
        "tables": tables,
        "weights": weights,
        "terms": encode(POLYNOMIALS["cubic"]),
        "outputs": [9],
        "implementation": "auto",
    }
    return gaunt_many_body(**{**arguments, **changes})


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"implementation": "fast"}, ValueError, "implementation: got 'fast'; expected one of"),
        ({"outputs": [8]}, ValueError, "outputs: 8 coefficients; expected a square"),
        ({"outputs": [16]}, ValueError, "outputs: 16 coefficients; expected a square up to the 9"),
        ({"terms": [3, 1, 0, 0]}, ValueError, "terms: expected the number of factors"),
        ({"terms": [1, 1, 0, 9]}, ValueError, "terms: output 0 with factors"),
        ({"terms": [1, 1, 3, 0]}, ValueError, "terms: output 3 with factors"),
        ({"fields": []}, ValueError, "fields: got none"),
    ],
    ids=["name", "square", "large", "short", "field", "output", "none"],
)
def test_wrong_arguments_are_named(change, error, message, rng):
    with pytest.raises(error, match=message):
        wrong(fields(rng), **change)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("replace", "error", "message"),
    [
        (lambda x: x.int(), TypeError, r"fields\[1\]: got torch.int32"),
        (lambda x: x.float(), TypeError, r"fields\[1\]: got torch.float32; .* convert with"),
        (lambda x: x[:2], ValueError, r"fields\[1\]: got shape \(2, 4, 2\)"),
        (lambda x: x[0], ValueError, r"fields\[1\]: got shape \(4, 2\)"),
        (lambda x: x[:, :3], ValueError, "fields: 3 coefficients"),
    ],
    ids=["integers", "dtypes", "rows", "axes", "square"],
)
def test_wrong_fields_are_named(replace, error, message, rng):
    x = fields(rng)
    x[1] = replace(x[1])
    with pytest.raises(error, match=message):
        wrong(x)


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(rng):
    tables, weights = grid(8)
    x, terms = fields(rng, nodes=40), encode(POLYNOMIALS["bracket"])
    cuda = [field.cuda() for field in x]
    found = gaunt_many_body(cuda, tables.cuda(), weights.cuda(), terms, [9, 4], "auto")
    for result, value in zip(found, expected("bracket", x, tables, weights), strict=True):
        torch.testing.assert_close(result.cpu(), value, rtol=1e-12, atol=1e-12)
