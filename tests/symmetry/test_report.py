"""Reports: what they say of the errors, and how they print."""

import math
import re

import pytest
import torch

from eqlib.symmetry import (
    SE,
    TOLERANCE,
    EquivarianceReport,
    Point,
    Scalar,
    Signature,
    assert_equivariant,
    equivariance_error,
)

SIGNATURE = Signature(SE(3), {"points": Point()}, {"points": Point(), "energy": Scalar()})


def report(**changes):
    arguments = {
        "signature": SIGNATURE,
        "dtype": torch.float32,
        "tolerance": 1e-5,
        "errors": {
            "points": {"identity": [0.0], "rotation + translation": [2e-7, 4e-7]},
            "energy": {"identity": [0.0], "rotation + translation": [0.25, 1e-6]},
        },
        "far": {"points": {1e3: 1.24, 1e6: 3.0}, "energy": {1e3: 0.0, 1e6: math.inf}},
    }
    return EquivarianceReport(**{**arguments, **changes})


def test_tolerances_are_those_of_the_house():
    assert {
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.float16: 5e-3,
        torch.bfloat16: 3e-2,
    } == TOLERANCE


def test_errors_are_summed_up_by_output_and_kind():
    assert report().max == 0.25
    assert report().mean == pytest.approx((2e-7 + 4e-7 + 0.25 + 1e-6) / 6)
    assert report().outputs == {"points": 4e-7, "energy": 0.25}
    assert report().kinds == {"identity": 0.0, "rotation + translation": 0.25}
    assert not report(tolerance=0.2).passed
    assert report(tolerance=0.25).passed


def test_report_prints_as_a_table():
    assert str(report(unchecked=("gap",))) == (
        "SE(3) in float32: NOT exact to 1e-05\n"
        "largest error                points   energy\n"
        "identity                    0.0e+00  0.0e+00\n"
        "rotation + translation      4.0e-07  2.5e-01\n"
        "error / (eps |t| / radius)\n"
        "translation by 1e+03 radii        1        0\n"
        "translation by 1e+06 radii        3      inf\n"
        "not checked: gap"
    )


def test_verdict_names_exactness():
    assert str(report(tolerance=0.25)).startswith("SE(3) in float32: exact to 0.25\n")
    approximate = Signature(SE(3), {"points": Point()}, SIGNATURE.outputs, exact=False)
    assert "NOT within 1e-05" in str(report(signature=approximate))
    assert "error / " not in str(report(far={"points": {}, "energy": {}}))


def test_infinite_errors_do_not_pass():
    errors = {"points": {"identity": [math.inf]}}
    broken = report(errors=errors, far={"points": {}}, tolerance=1e9)
    assert broken.max == broken.mean == math.inf
    assert not broken.passed


def test_assertion_carries_the_report(rng):
    points = torch.randn(5, 3, generator=rng)
    signature = Signature(SE(3), {"points": Point()}, Scalar())

    def inertia(points):
        return points.square().sum()

    with pytest.raises(AssertionError) as raised:
        assert_equivariant(inertia, {"points": points}, signature)
    assert str(raised.value) == str(equivariance_error(inertia, {"points": points}, signature))
    with pytest.raises(AssertionError, match=r"NOT exact to 0\.01"):
        assert_equivariant(inertia, {"points": points}, signature, tolerance=0.01)
    assert_equivariant(inertia, {"points": points}, signature, tolerance=1e6)


def test_approximate_signatures_need_a_tolerance(rng):
    points = {"points": torch.randn(5, 3, generator=rng)}
    signature = Signature(SE(3), {"points": Point()}, Point(), exact=False)
    with pytest.raises(ValueError, match="tolerance: the signature is approximate"):
        assert_equivariant(lambda points: points.round(), points, signature)
    assert_equivariant(lambda points: points.round(), points, signature, tolerance=2.0)
    with pytest.raises(AssertionError, match=re.escape("NOT within 0.001")):
        assert_equivariant(lambda points: points.round(), points, signature, tolerance=1e-3)


def test_unnamed_outputs_are_listed(rng):
    def moments(points):
        energy = points.new_zeros(())
        return {"points": points, "energy": energy, "gap": 0.0, "none": None, "frames": points}

    found = equivariance_error(moments, {"points": torch.ones(5, 3)}, SIGNATURE)
    assert found.unchecked == ("gap", "frames")
