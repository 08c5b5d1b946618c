"""Hotelling's statistic of paired differences, and the bound that it is compared with."""

import numpy as np
import pytest
import torch

from eqlib.models.graphs.brec import paired_statistic, threshold


def by_numpy(differences):
    mean = differences.mean(0)
    return len(differences) * mean @ np.linalg.inv(np.cov(differences.T)) @ mean


def test_statistic_is_that_of_the_textbook(rng):
    differences = torch.randn(32, 16, dtype=torch.float64, generator=rng) + 0.3
    found = paired_statistic(differences)
    expected = by_numpy(differences.numpy())
    assert found.pinv == pytest.approx(expected, rel=1e-9)
    assert found.ridge == pytest.approx(expected, rel=1e-5)
    assert found.released == pytest.approx(expected / 32, rel=1e-9)
    assert paired_statistic(differences, ridge=0.0).ridge == pytest.approx(expected, rel=1e-9)


def test_threshold_is_the_quantile_of_the_f_distribution(rng):
    # 31 * 16 / 16 times the 95 % quantile of F(16, 16), 2.3335 in printed tables
    assert threshold() == pytest.approx(31 * 2.3335, abs=2e-3)
    assert threshold() == pytest.approx(72.338, abs=1e-3)
    # F(d1, d2) is a ratio of mean squares of normal numbers
    squares = torch.randn(40_000, 2, 16, generator=rng).square().mean(2)
    assert (squares[:, 0] / squares[:, 1]).quantile(0.95).item() == pytest.approx(2.3335, abs=0.05)
    assert threshold(20, 4, 0.9) < threshold(20, 4, 0.99)


@pytest.mark.unchecked
def test_threshold_needs_more_copies_than_outputs():
    with pytest.raises(ValueError, match="got 16 for 16 outputs; expected more copies"):
        threshold(16, 16)


def test_equal_means_pass_in_one_of_twenty_cases_and_never_without_the_factor(rng):
    """The released script leaves out the factor q, the number of pairs."""
    draws = torch.randn(1500, 32, 16, dtype=torch.float64, generator=rng)
    mixed = draws @ torch.randn(16, 16, dtype=torch.float64, generator=rng)  # any covariance
    found = [paired_statistic(differences) for differences in mixed]
    rates = {
        form: sum(getattr(each, form) > threshold() for each in found) / len(found)
        for form in ("ridge", "pinv", "released")
    }
    # three standard deviations of a rate of 0.05 in 1500 draws are 0.017
    assert rates["ridge"] == pytest.approx(0.05, abs=0.017)
    assert rates["pinv"] == pytest.approx(0.05, abs=0.017)
    assert rates["released"] == 0


def test_exactly_constant_differences():
    """Without scatter the pseudo-inverse is zero, and different constants look the same."""
    zero = torch.zeros(32, 16, dtype=torch.float64)
    assert paired_statistic(zero) == (0.0, 0.0, 0.0)
    apart = paired_statistic(zero + 1)
    assert apart.pinv == apart.released == 0.0
    assert apart.ridge == pytest.approx(32 * 16 / 1e-7)
    # where the ridge begins to tell constants apart
    least = (threshold() * 1e-7 / 32) ** 0.5
    assert least == pytest.approx(4.75e-4, rel=1e-2)
    step = torch.zeros(32, 16, dtype=torch.float64)
    step[:, 0] = 1.01 * least
    assert paired_statistic(step).ridge > threshold() > paired_statistic(0.98 * step).ridge


def test_rounding_errors_pass_the_pseudo_inverse_and_not_the_ridge():
    """A difference of 1e-15 that scatters by 1e-17, as of one graph in two orders of summation."""
    noise = torch.linspace(-1, 1, 32, dtype=torch.float64)[:, None] * 1e-17
    differences = torch.full((32, 16), 1e-15, dtype=torch.float64) + noise
    found = paired_statistic(differences)
    assert found.released > threshold()
    assert found.ridge < 1e-15


def test_outputs_that_are_not_finite_pass_no_bound():
    found = paired_statistic(torch.full((32, 16), torch.nan, dtype=torch.float64))
    assert not found.ridge > threshold()
    assert not found.ridge < threshold()
