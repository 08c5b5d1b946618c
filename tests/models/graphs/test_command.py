"""What users type: `eqlib train graphs --dataset ...`."""

import pytest
import yaml

from eqlib.models.training.configuration import parse_train
from eqlib.models.training.sweep import read_sweep
from eqlib.usage import UsageError


@pytest.mark.parametrize("option", ["--dataset", "--data.dataset"])
def test_the_data_set_is_an_option(option):
    options = [option, "exp_classify", "--model", "gin"]
    command = parse_train("graphs", options)
    assert command.config.data["dataset"] == "exp_classify"
    assert command.config.data["folds"] is None
    assert command.config.model == "gin"


@pytest.mark.parametrize("option", ["--dataset", "--data.dataset"])
def test_a_data_set_for_counting_is_refused(option):
    with pytest.raises(UsageError, match=r"graphs.separation --dataset sr25"):
        parse_train("graphs", [option, "sr25"])


def test_tasks_with_one_data_set_have_no_such_option():
    with pytest.raises(UsageError, match="--dataset"):
        parse_train("nbody", ["--dataset", "charged5"])


def test_the_data_set_is_a_key_of_sweeps(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(
        yaml.safe_dump([{"task": "graphs", "dataset": "exp_classify", "seeds": [0, 1]}])
    )
    runs = read_sweep(path)
    assert [run.command.config.seed for run in runs] == [0, 1]


@pytest.mark.parametrize("preset", ["quick", "cpu", "gpu", "paper"])
@pytest.mark.parametrize("model", ["gin", "fa_gin", "ga_gin", "mlp", "fa_mlp"])
def test_every_preset_is_complete(model, preset):
    config = parse_train("graphs", ["--model", model, "--preset", preset]).config
    assert config.training.epochs >= 20


def test_the_help_is_that_of_the_data_set(capsys):
    with pytest.raises(SystemExit):
        parse_train("graphs", ["--dataset", "mutag", "--help"])
    text = capsys.readouterr().out
    assert "data: MUTAG:" in text
    assert "eqlib train graphs --dataset mutag --model spen --preset quick" in text
    assert "runs/graphs/mutag/MODEL-PRESET-" in text
    assert "fold-K-RULE" in text


def test_tasks_without_folds_say_nothing_of_them(capsys):
    with pytest.raises(SystemExit):
        parse_train("nbody", ["--help"])
    assert "fold-K-RULE" not in capsys.readouterr().out


def test_the_data_set_typed_comes_before_that_of_a_file(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump({"data": {"dataset": "mutag", "folds": 3}}))
    assert parse_train("graphs", ["--config", str(path)]).config.data["dataset"] == "mutag"
    options = ["--config", str(path), "--dataset", "exp_classify"]
    with pytest.raises(UsageError, match="folds: is for sets with folds, and exp_cl"):
        parse_train("graphs", options)
    data = parse_train("graphs", [*options, "--data.folds", "null"]).config.data
    assert (data["dataset"], data["folds"]) == ("exp_classify", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold", "2"], r"fold: is for sets with folds, .*; choose one by --dataset: mutag, ptc"),
        (["--data.protocol", "published"], "protocol: is for sets with folds, and exp_cl"),
        (["--data.download", "true"], "download: is for sets with folds, and exp_classify has"),
        (["--dataset", "brec", "--data.protocol", "nested"], "protocol: is for sets with folds"),
        (["--dataset", "brec", "--folds", "2"], "folds: is for sets with folds, and brec has none"),
        (["--dataset", "mutagg"], "data: unknown dataset 'mutagg'; did you mean 'mutag'"),
        (["--dataset", "mutag", "--model", "spn"], "did you mean 'spen'"),
        (["--dataset", "mutag", "--fold", "11"], "fold: expected 1 to 10, got 11"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_explained(options, message):
    with pytest.raises(UsageError, match=message):
        parse_train("graphs", options)
