"""The shapes in annotations are checked in tests: a wrong shape is caught where it enters."""

import jaxtyping
import pytest
import torch

from eqlib.geometry import segment_sum

VALUES = torch.ones(4, 2)
INDEX_OF_TOO_FEW = torch.tensor([0, 0, 1])


def test_wrong_shape_is_caught():
    with pytest.raises(jaxtyping.TypeCheckError, match="index"):
        segment_sum(VALUES, INDEX_OF_TOO_FEW, 2)


def test_wrong_dtype_is_caught():
    with pytest.raises(jaxtyping.TypeCheckError, match="index"):
        segment_sum(VALUES, torch.ones(4), 2)


@pytest.mark.unchecked
def test_marked_tests_meet_the_error_of_the_library():
    with pytest.raises(ValueError, match="index"):
        segment_sum(VALUES, INDEX_OF_TOO_FEW, 2)
