"""The rules of the test suite: what skips, and what may not."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SUITE = """
import pytest

@pytest.mark.data
def test_reads(data):
    assert data.is_dir()

@pytest.mark.data
def test_gives_up(data):
    pytest.skip("a file is missing")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers =\n  data\n  gpu\n  unchecked")
    pytester.makepyfile(SUITE)
    return pytester


def test_data_tests_skip_by_name_without_data(suite):
    result = suite.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines("SKIPPED*needs real data: pytest --data=DIR")


def test_data_tests_may_not_skip_with_data(suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    result = suite.runpytest_subprocess(f"--data={folder}")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines("*skipped although --data was given*a file is missing*")


def test_missing_data_folder_is_an_error(suite):
    result = suite.runpytest_subprocess("--data=nowhere")
    result.stderr.fnmatch_lines("*--data nowhere: there is no such folder")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
