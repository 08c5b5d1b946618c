"""The picture of a cross-validation: drawn for one rule or both, and small enough to commit."""

import pytest
import torch

from eqlib.models.training.folds.figures import gather
from eqlib.models.training.folds.picture import draw_folds
from tests.models.training.toy_folds import finished_run


@pytest.mark.parametrize("rules", [("nested",), ("published",), ("nested", "published")], ids=str)
@pytest.mark.parametrize("baseline", [{}, {"majority": 0.6}], ids=["", "with a majority"])
def test_ten_folds_take_less_than_200_kilobytes(rules, baseline, tmp_path, rng):
    runs = []
    for fold in range(1, 11):
        for rule in rules:
            # jumping as far as 18 items can, which takes the most
            right = torch.randint(8, 19, (350,), generator=rng)
            runs.append(finished_run(fold, (right / 18).tolist(), rule))
    figures = gather(runs, "accuracy") | {"data": baseline}
    draw_folds(runs, figures, "ten folds", tmp_path / "folds.png")
    picture = (tmp_path / "folds.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
