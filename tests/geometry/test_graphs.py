"""Complete graphs against a double loop."""

import pytest
import torch

from eqlib.geometry import complete_graph


@pytest.mark.parametrize(
    "batch",
    [[], [0], [0, 0], [0, 0, 0, 2, 4, 4], [1, 1, 1], [0, 1, 2, 3]],
    ids=str,
)
@pytest.mark.parametrize("num_graphs", [None, 6], ids=str)
def test_matches_a_double_loop(batch, num_graphs):
    expected = [
        (source, target)
        for target in range(len(batch))
        for source in range(len(batch))
        if source != target and batch[source] == batch[target]
    ]
    edge_index = complete_graph(torch.tensor(batch, dtype=torch.int64), num_graphs)
    assert edge_index.dtype == torch.int64
    assert edge_index.shape == (2, len(expected))
    assert list(zip(*edge_index.tolist(), strict=True)) == expected


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (torch.tensor([0, 1, 0]), ValueError, "batch is not sorted"),
        (torch.tensor([0, 1, 3]), ValueError, "0 <= batch < num_graphs = 3"),
        (torch.tensor([-1, 0]), ValueError, "entries from -1 to 0"),
        (torch.tensor([0, 1]).int(), TypeError, "batch has dtype torch.int32"),
        (torch.tensor([[0, 1]]), ValueError, r"batch has shape \(1, 2\)"),
        (torch.tensor(0), ValueError, r"batch has shape \(\)"),
    ],
    ids=["unsorted", "large", "negative", "int32", "matrix", "scalar"],
)
def test_bad_batch(batch, error, message):
    with pytest.raises(error, match=message):
        complete_graph(batch, 3)
