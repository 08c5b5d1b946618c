"""What users type: `eqlib train graphs --dataset ...`."""

import pytest
import yaml

from eqlib.models.training.command import parse_train
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
