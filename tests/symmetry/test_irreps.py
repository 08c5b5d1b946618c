"""Irreps: e3nn's grammar, basis and layouts."""

import pytest
import torch
from e3nn import o3

from eqlib.symmetry import SO, Element, Irreps, O, Vector


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 6, 10], ids=str)
def test_spherical_harmonics_rotate_with_the_wigner_matrices(degree, rng):
    # e3nn's harmonics are polynomials in float64: independent of its Wigner matrices.
    element = O(3).sample(rng, kinds=["reflection"])[0]
    directions = torch.randn(7, 3, dtype=torch.float64, generator=rng)

    def harmonics(x):
        return o3.spherical_harmonics(degree, x, normalize=True)

    parity = "e" if degree % 2 == 0 else "o"
    rotated = harmonics(Vector().act(element, directions))
    expected = Irreps(f"{degree}{parity}").act(element, harmonics(directions))
    assert (rotated - expected).abs().max() < 1e-11
    # control: the other parity changes sign
    other = Irreps(f"{degree}{'o' if parity == 'e' else 'e'}")
    assert (rotated - other.act(element, harmonics(directions))).abs().max() > 0.1


def test_features_match_those_of_e3nn(rng):
    irreps = o3.Irreps("8x0e + 4x1o + 2x2e + 3x1e")
    rotation = O(3).sample(rng, kinds=["reflection"]).matrix[0]
    features = torch.randn(5, irreps.dim, dtype=torch.float64, generator=rng)
    expected = features @ irreps.D_from_matrix(rotation).mT
    result = Irreps("8x0e + 4x1o + 2x2e + 3x1e").act(Element(rotation), features)
    assert (result - expected).abs().max() < 1e-5


def test_layouts_are_transposes_of_each_other(rng):
    element = O(3).sample(rng)[0]
    copies = torch.randn(5, 4, 3, dtype=torch.float64, generator=rng)
    by_copy = Irreps("4x1o").act(element, copies.flatten(-2)).reshape(5, 4, 3)
    by_component = Irreps("4x1o", layout="ir_mul").act(element, copies.mT.flatten(-2))
    torch.testing.assert_close(by_component.reshape(5, 3, 4).mT, by_copy)
    torch.testing.assert_close(by_copy, Vector().act(element, copies))
    # control: the layouts are not the same
    assert not torch.allclose(
        Irreps("4x1o", layout="ir_mul").act(element, copies.flatten(-2)).reshape(5, 4, 3), by_copy
    )


@pytest.mark.parametrize(
    "irreps", ["8x0e+4x1o", "8x0e + 4x1o", o3.Irreps("8x0e+4x1o")], ids=["plain", "spaced", "e3nn"]
)
def test_names_and_objects_of_e3nn_are_read(irreps):
    assert repr(Irreps(irreps)) == "Irreps('8x0e+4x1o')"


def test_single_irreps_and_other_layouts_print():
    assert repr(Irreps(o3.Irrep("1o"))) == "Irreps('1x1o')"
    assert repr(Irreps("1o", layout="ir_mul")) == "Irreps('1x1o', layout='ir_mul')"


@pytest.mark.unchecked
@pytest.mark.parametrize("irreps", ["8x0", "vector", 3], ids=str)
def test_what_e3nn_cannot_read_is_refused(irreps):
    with pytest.raises(ValueError, match="irreps: expected e3nn's grammar such as '8x0e"):
        Irreps(irreps)


@pytest.mark.unchecked
def test_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="layout: expected 'mul_ir' or 'ir_mul', got 'ir-mul'"):
        Irreps("1o", layout="ir-mul")


def test_other_spaces_than_three_dimensional_ones_are_refused():
    with pytest.raises(ValueError, match=r"x: Irreps\('1x1o'\) needs a group of dimension 3, got"):
        Irreps("1o").validate("x", torch.zeros(5, 3), SO(2))
