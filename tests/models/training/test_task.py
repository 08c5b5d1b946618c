"""The base class of tasks."""

import pytest
import torch

from tests.models.training.toy import Options, Toy


def test_default_options_are_used_where_none_are_given(tmp_path):
    assert Toy().settings == Options()
    task = Toy(Options(train=3), tmp_path)
    assert task.settings.train == 3
    assert task.data_dir == tmp_path


@pytest.mark.parametrize(
    ("values", "mean", "median"),
    [([4.0], 4.0, 4.0), ([9.0, 1.0, 2.0], 4.0, 2.0), ([1.0, 2.0, 10.0, 3.0], 4.0, 2.5)],
    ids=["one", "odd", "even"],
)
def test_summary_is_mean_and_median(values, mean, median):
    assert Toy().summarise({"mse": torch.tensor(values)}) == {"mse": mean, "mse_median": median}
