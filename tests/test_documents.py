"""The examples in documents run, and print what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "kernels", "models", "benchmarks")
PAGES = sorted([*ROOT.glob("*.md"), *(p for name in FOLDERS for p in (ROOT / name).rglob("*.md"))])
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
EXAMPLES = {
    str(page.relative_to(ROOT)): found
    for page in PAGES
    if (found := EXAMPLE.findall(page.read_text()))
}


def without_rounding(text: str) -> str:
    """Mask the figures that are rounding errors, and so differ between machines."""
    text = re.sub(r"\d\.\de-(0[6-9]|1\d)|0\.0e\+00", "rounding", text)
    return re.sub(r"(radii).*", r"\1 ratios", text)


@pytest.mark.parametrize(
    ("page", "examples"),
    [
        ("README.md", 5),
        ("docs/degenerate.md", 3),
        ("docs/frames.md", 5),
        ("docs/gaunt.md", 5),
        ("docs/geometry.md", 5),
        ("docs/graphs.md", 3),
        ("docs/harmonics.md", 5),
        ("docs/permutations.md", 5),
        ("docs/piecewise.md", 5),
        ("docs/polynomials.md", 2),
        ("docs/position_orientation.md", 13),
        ("docs/steerable.md", 3),
        ("docs/subgraph.md", 13),
        ("docs/symmetry.md", 3),
        ("docs/training.md", 1),
    ],
)
def test_examples_are_found(page, examples):
    assert len(EXAMPLES[page]) == examples


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # on import of PyG
@pytest.mark.parametrize("page", list(EXAMPLES))
def test_examples_print_what_the_page_says(page):
    scope = {}
    for code, expected in EXAMPLES[page]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), torch.random.fork_rng():
            exec(code, scope)
        assert without_rounding(printed.getvalue()) == without_rounding(expected)


def test_links_lead_somewhere():
    dead = [
        f"{page}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert dead == []
