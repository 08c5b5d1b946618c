"""Fixtures, options and rules shared by all tests."""

from collections.abc import Generator, Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

# The shapes in eqlib's annotations are checked at every call, from its first import on.
jaxtyping.install_import_hook("eqlib", "beartype.beartype")

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False


def pytest_addoption(parser: pytest.Parser) -> None:
    # In the form --data=DIR: pytest takes a bare DIR for tests, and seeks its settings beside them.
    parser.addoption("--data", metavar="DIR", type=Path, help="--data=DIR: folder of real data")


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption("--data")
    if folder is not None and not folder.is_dir():
        raise pytest.UsageError(f"--data {folder}: there is no such folder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine or this call cannot run, by name and with the reason."""
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        elif "data" in item.keywords and config.getoption("--data") is None:
            item.add_marker(pytest.mark.skip(reason="needs real data: pytest --data=DIR"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test on real data that skips although the data is there."""
    report = yield
    needs_gpu = "gpu" in item.keywords and not torch.cuda.is_available()
    if (
        report.skipped
        and "data" in item.keywords
        and item.config.getoption("--data") is not None
        and not needs_gpu
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped although --data was given: {report.longreprtext}"
    return report


@pytest.fixture(autouse=True)
def _checked_shapes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check annotations, save in tests marked ``unchecked``."""
    jaxtyping.config.update("jaxtyping_disable", "unchecked" in request.keywords)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def rng() -> torch.Generator:
    """Return a generator with a fixed seed: the only source of randomness in a test."""
    return torch.Generator().manual_seed(20260101)


@pytest.fixture
def data(request: pytest.FixtureRequest) -> Path:
    """Return the folder given with ``--data``."""
    return request.config.getoption("--data").resolve()
