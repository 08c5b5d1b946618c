"""The examples of docs/frames.md run and print what the page says."""

import contextlib
import io
from pathlib import Path

import torch

from tests.symmetry.test_docs import EXAMPLE, without_rounding

PAGE = Path(__file__).parents[2] / "docs" / "frames.md"


def test_examples_print_what_the_page_says():
    scope = {}
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) == 3
    for code, expected in examples:
        printed = io.StringIO()
        with torch.random.fork_rng(), contextlib.redirect_stdout(printed):
            exec(code, scope)
        assert without_rounding(printed.getvalue()) == without_rounding(expected)
