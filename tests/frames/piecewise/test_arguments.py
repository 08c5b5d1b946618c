"""Arguments of piecewise frame averaging that are refused."""

import pytest
import torch
from torch import Tensor

from eqlib.frames import PiecewiseFrameAverage, piecewise_errors
from tests.frames.piecewise.jointed import boxes


def doubled(points: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
    return 2 * points


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, p, c: f(p), TypeError, "cells: expected a label"),
        (lambda f, p, c: f(p, cells=c.int()), TypeError, "cells: expected labels in int64"),
        (lambda f, p, c: f(p, cells=c[:3]), ValueError, r"cells: expected shape \(40\)"),
        (lambda f, p, c: f(p, cells=c - 1), ValueError, "cells: expected labels from 0 on, got -1"),
        (
            lambda f, p, c: f(p, cells=torch.full((40, 2), torch.nan)),
            ValueError,
            "cells: expected finite weights of at least zero",
        ),
        (
            lambda f, p, c: f(p, cells=torch.tensor([1.5, -0.5]).expand(40, 2)),
            ValueError,
            "cells: expected finite weights of at least zero",
        ),
        (lambda f, p, c: f(p, cells=c, mask=c), TypeError, "mask: expected booleans"),
        (lambda f, p, c: f(p, cells=c, mask=c[:9] > 0), ValueError, r"mask: expected shape \(40,"),
        (lambda f, p, c: f(p, cells=c, num_graphs=2), ValueError, "num_graphs: only a ragged"),
        (lambda f, p, c: f(p, cells=c, batch=c.int()), TypeError, "batch: expected torch.int64"),
        (
            lambda f, p, c: f(p, cells=c, batch=c, num_graphs=1),
            ValueError,
            "batch has entries from 0 to 1; expected 0 <= batch < num_graphs = 1",
        ),
        (lambda f, p, c: f(p, points=p, cells=c), TypeError, "1 by position and points"),
        (lambda f, p, c: f(cells=c), TypeError, "points: expected a tensor, got NoneType"),
        (
            lambda f, p, c: PiecewiseFrameAverage(f.backbone, bound=0.0),
            ValueError,
            "bound: expected a positive size",
        ),
        (
            lambda f, p, c: PiecewiseFrameAverage(f.backbone, cut=0.5)(p, cells=torch.rand(40, 2)),
            ValueError,
            "cut: expected a weight from 0 to below 1 / 2",
        ),
        (
            lambda f, p, c: PiecewiseFrameAverage(f.backbone, levels={"output": "edge"}),
            ValueError,
            "levels: output 'output' has a row per edge",
        ),
        (
            lambda f, p, c: PiecewiseFrameAverage(f.backbone, "Lorentz(4)"),
            ValueError,
            "group: expected one of isometries",
        ),
        (lambda f, p, c: piecewise_errors(torch.sin, {}, c), TypeError, "signature: expected"),
    ],
    ids=[
        "no cells",
        "dtype",
        "shape",
        "negative label",
        "NaN weights",
        "negative weights",
        "mask dtype",
        "mask shape",
        "num_graphs",
        "batch dtype",
        "batch range",
        "twice",
        "missing",
        "bound",
        "cut",
        "levels",
        "group",
        "signature",
    ],
)
def test_what_cannot_be_is_refused(call, error, message, rng):
    points, parts = boxes(rng, 2, 20)
    with pytest.raises(error, match=message):
        call(PiecewiseFrameAverage(doubled), points, parts)
