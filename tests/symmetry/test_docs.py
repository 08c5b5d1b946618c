"""The examples of docs/symmetry.md run and print what the page says."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "symmetry.md"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def without_rounding(text):
    """Mask the figures that are rounding errors, and so differ between machines."""
    text = re.sub(r"\d\.\de-(0[6-9]|1\d)|0\.0e\+00", "rounding", text)
    return re.sub(r"(radii).*", r"\1 ratios", text)


def test_examples_print_what_the_page_says():
    scope = {}
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) == 2
    for code, expected in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, scope)
        assert without_rounding(printed.getvalue()) == without_rounding(expected)
