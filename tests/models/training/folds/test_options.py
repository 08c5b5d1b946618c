"""What users may type of folds."""

import pytest

from eqlib.models.training.configuration import command_line, parse_train
from eqlib.usage import UsageError
from tests.models.training.toy_folds import SIDES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold", "0"], "fold: expected 1 to 10, got 0"),
        (["--fold", "11"], "fold: expected 1 to 10, got 11"),
        (["--folds", "11"], "folds: expected 2 to 10, got 11"),
        (["--folds", "1"], "a single one is --fold N"),
        (["--folds", "3", "--fold", "2"], "give either --fold N, for a single run, or --folds N"),
        (["--folds", "three"], "folds: expected an integer, got 'three'"),
        (["--data.protocol", "nestd"], "did you mean 'nested'"),
    ],
    ids=" ".join,
)
def test_folds_that_there_are_not_are_refused(options, message):
    with pytest.raises(UsageError) as raised:
        parse_train(SIDES, ["--model", "lines", *options])
    assert message in str(raised.value)


@pytest.mark.parametrize("option", ["--folds", "--fold"])
def test_tasks_without_folds_have_no_such_option(option):
    with pytest.raises(UsageError, match=option):
        parse_train("nbody", [option, "3"])


def test_the_number_of_folds_is_an_option_with_a_short_name():
    command = parse_train(SIDES, ["--folds", "4"])
    assert command.config.data["folds"] == 4
    assert "--data.folds 4" in command_line(command.config)
    assert command == parse_train(SIDES, ["--data.folds", "4"])
