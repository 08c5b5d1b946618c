"""What presets add for single data sets."""

import shlex

import pytest

from eqlib.models.training.configuration import command_line, make_config, parse_train, read_preset
from eqlib.models.training.configuration.command import default_folder
from eqlib.usage import UsageError
from tests.models.training.toy_folds import SIDES, Sides

PRESET = """\
about: for tests
training: {epochs: 3, batch_size: 5}
models:
  lines:
    training: {learning_rate: 0.5}
datasets:
  circle:
    model: lines
    data: {protocol: nested}
    training: {epochs: 7, learning_rate: 0.25}
    models:
      lines:
        network: {width: 3}
        training: {batch_size: 2}
"""


@pytest.fixture
def use(tmp_path, monkeypatch):
    """Return a function that makes a text the preset ``quick``."""

    def write(text: str) -> None:
        (tmp_path / "quick.yaml").write_text(text)
        monkeypatch.setattr(Sides, "presets", tmp_path)

    return write


def test_settings_of_a_data_set_come_after_those_of_all(use):
    use(PRESET)
    usual, circle = (make_config(SIDES, dataset=name) for name in ("line", "circle"))
    assert make_config(SIDES) == usual
    training = usual.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 5, 0.5)
    assert usual.network["width"] == 8
    training = circle.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (7, 2, 0.25)
    assert circle.network["width"] == 3
    assert circle.data["protocol"] == "nested"
    assert (usual.data["dataset"], circle.data["dataset"]) == ("line", "circle")


@pytest.mark.parametrize("option", ["--dataset", "--data.dataset"])
def test_the_chosen_data_set_decides(option, use, tmp_path):
    use(PRESET)
    command = parse_train(SIDES, [option, "circle"])
    assert command.config.training.epochs == 7
    assert command.config.data["dataset"] == "circle"
    assert str(command.out) == "runs/sides/circle/lines-quick-seed0"
    assert str(default_folder(make_config(SIDES))) == "runs/sides/lines-quick-seed0"
    file = tmp_path / "file.yaml"
    file.write_text("data: {dataset: circle}\ntraining: {epochs: 8}")
    config = parse_train(SIDES, ["--config", str(file)]).config
    assert (config.training.epochs, config.training.batch_size) == (8, 2)


def test_the_command_line_gives_the_configuration_back(use):
    use(PRESET)
    config = parse_train(SIDES, ["--dataset", "circle", "--folds", "2"]).config
    words = shlex.split(command_line(config))
    assert words[-4:] == ["--data.dataset", "circle", "--data.folds", "2"]
    assert parse_train(SIDES, words[3:]).config == config


def test_a_data_set_that_a_task_does_not_have_is_refused():
    with pytest.raises(UsageError, match=r"data: .*unexpected keyword argument 'dataset'"):
        make_config("nbody", "egnn", dataset="circle")
    with pytest.raises(UsageError, match=r"^data: unknown dataset 'mutagg'; did you mean"):
        make_config("graphs", "gin", dataset="mutagg")


def test_sections_may_share_their_settings(use):
    use("about: x\ndatasets:\n  line: &all\n    training: {epochs: 4}\n  circle: *all\n")
    assert make_config(SIDES, dataset="circle").training.epochs == 4
    assert make_config(SIDES, dataset="square").training.epochs == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: [circle]", "datasets: expected names with values"),
        ("datasets: {circle: 3}", "datasets.circle: expected names with values, got 3"),
        ("datasets: {circle: {trainig: {}}}", "did you mean 'training'"),
        ("datasets: {circle: {models: {lins: {}}}}", "did you mean 'lines'"),
        ("datasets: {circle: {training: 3}}", "training: expected names with values, got 3"),
    ],
    ids=str,
)
def test_wrong_sections_are_explained(text, message, use):
    use(text)
    with pytest.raises(UsageError) as raised:
        read_preset(Sides, "quick")
    assert message in str(raised.value)


def test_sections_of_tasks_with_one_data_set_are_refused(tmp_path, monkeypatch):
    from tests.models.training.vectors import Vectors

    (tmp_path / "quick.yaml").write_text("datasets: {circle: {}}")
    monkeypatch.setattr(Vectors, "presets", tmp_path)
    with pytest.raises(UsageError, match=r"datasets\.circle: .*dataset"):
        read_preset(Vectors, "quick")


def test_sections_of_data_sets_that_there_are_not_are_refused(tmp_path, monkeypatch):
    from eqlib.models.graphs import GraphClassification

    (tmp_path / "quick.yaml").write_text("datasets: {mutagg: {}}")
    monkeypatch.setattr(GraphClassification, "presets", tmp_path)
    with pytest.raises(UsageError, match="did you mean 'mutag'"):
        read_preset(GraphClassification, "quick")
