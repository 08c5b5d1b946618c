"""Presets, configuration files and options, and what is said of wrong ones."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from eqlib.models import TASKS, get_task
from eqlib.models.training.configuration import (
    RunConfig,
    TrainingConfig,
    command_line,
    load_config,
    make_config,
    override,
    parse_train,
    preset_names,
    read_preset,
    save_config,
)
from eqlib.models.training.configuration.command import default_folder
from eqlib.usage import UsageError
from tests.models.training.vectors import Vectors


@pytest.fixture(autouse=True)
def vectors(monkeypatch):
    """Make the task known under its short name."""
    monkeypatch.setitem(TASKS, "vectors", "tests.models.training.vectors:Vectors")


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def with_preset(tmp_path, monkeypatch):
    """Return a function that gives the task a preset with a certain text."""

    def use(text: str) -> None:
        (tmp_path / "quick.yaml").write_text(text)
        monkeypatch.setattr(Vectors, "presets", tmp_path)

    return use


def test_preset_names_come_in_their_usual_order():
    assert preset_names(Vectors) == ["quick", "cpu"]
    assert preset_names(get_task("nbody"))[0] == "quick"


def test_every_preset_of_every_reference_task_is_sound():
    for task in list(TASKS):
        for preset in preset_names(get_task(task)):
            assert read_preset(get_task(task), preset).about
            for model in get_task(task).models:
                make_config(task, model, preset)
            for dataset, section in read_preset(get_task(task), preset).datasets.items():
                for model in section.models or [section.model]:
                    make_config(task, model, preset, dataset=dataset)


def test_preset_gives_a_complete_configuration():
    config = make_config("vectors", "radial")
    assert config.network == {"width": 3, "powers": (1, 2), "activation": "silu"}
    assert config.data == {"train": 12, "scale": 1.0}
    assert config.training == TrainingConfig(
        epochs=2, batch_size=6, learning_rate=0.01, device="cpu", threads=1, compile="no"
    )


def test_part_of_the_model_overrides_the_common_part():
    config = make_config("vectors", "dense")
    assert (config.training.epochs, config.training.batch_size) == (1, 6)
    assert config.data["train"] == 6
    assert config.network == {"bias": True}


def test_preset_names_the_model_unless_the_user_does():
    assert make_config("vectors").model == "radial"
    assert make_config("vectors", "dense").model == "dense"
    with pytest.raises(UsageError, match="name a model with --model; vectors has radial, dense"):
        make_config("vectors", preset="cpu")


def test_later_sources_override_earlier_ones(tmp_path):
    file = write(tmp_path, "seed: 4\nnetwork: {width: 7}\ntraining: {epochs: 9, patience: 3}")
    command = parse_train("vectors", ["--config", str(file), "--training.epochs", "5"])
    assert command.config.seed == 4
    assert command.config.network["width"] == 7
    assert command.config.training.epochs == 5
    assert command.config.training.patience == 3
    assert command.config.training.batch_size == 6
    assert parse_train("vectors", ["--config", str(file), "--seed", "1"]).config.seed == 1


def test_configuration_file_of_a_run_is_read_whole(tmp_path):
    config = make_config("vectors", "dense", "cpu", seed=3)
    save_config(config, tmp_path / "config.yaml")
    assert parse_train("vectors", ["--config", str(tmp_path / "config.yaml")]).config == config


def test_options_take_their_declared_types():
    options = ["--network.powers", "[1, 3]", "--training.clip_norm", "null"]
    config = parse_train("vectors", options).config
    assert config.network["powers"] == (1, 3)
    assert config.training.clip_norm is None


@pytest.mark.parametrize(
    "settings",
    [
        {"training": {"compile": "no", "learning_rate": 1e-5}},
        {"training": {"compile": "reduce-overhead", "clip_norm": 0.5, "precision": "bfloat16"}},
        {"network": {"powers": [1, 2, 3], "activation": "tanh"}, "data": {"scale": 1e20}},
    ],
    ids=str,
)
def test_configuration_survives_its_file(settings, tmp_path):
    config = override(make_config("vectors", "radial", "cpu", seed=5), settings)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_command_line_gives_the_configuration_back_and_names_no_path():
    settings = {
        "network": {"powers": [3], "activation": "tanh"},
        "training": {"clip_norm": 0.5, "threads": None, "tensorboard": True},
    }
    config = override(make_config("vectors", "radial", "quick", seed=7), settings)
    words = shlex.split(command_line(config))
    assert words[:3] == ["eqlib", "train", "vectors"]
    assert parse_train("vectors", words[3:]).config == config
    assert "/" not in command_line(config)
    plain = make_config("vectors", "dense")
    expected = "eqlib train vectors --model dense --preset quick --seed 0"
    assert command_line(plain) == expected


def test_folder_is_named_after_the_run():
    assert default_folder(make_config("vectors", seed=2)) == Path("runs/vectors/radial-quick-seed2")


def test_task_may_be_a_class_of_the_user():
    assert get_task("tests.models.training.vectors:Vectors") is Vectors


@pytest.mark.parametrize("name", ["vectro", "tests.nowhere:Vectors", "tests.tolerances:Vectors"])
def test_unknown_task(name):
    with pytest.raises(UsageError, match=f"unknown task '{name}'.*vectors"):
        get_task(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "radail"], "unknown model of vectors 'radail'; did you mean 'radial'"),
        (["--preset", "quik"], "unknown preset of vectors 'quik'; did you mean 'quick'"),
        (["--sede", "1"], "unknown option '--sede'; did you mean '--seed'"),
        (["--netwrok.width", "1"], "did you mean '--network.width'"),
        (["--network.widht=1"], "did you mean '--network.width'"),
        (["--data.trian", "1"], "did you mean '--data.train'"),
        (["--training.epoch", "1"], "did you mean '--training.epochs'"),
        (["--network.activation", "sliu"], "network.activation 'sliu'; did you mean 'silu'"),
        (["--training.schedule", "cosin"], "training.schedule 'cosin'; did you mean 'cosine'"),
        (["--training.precision", "fp32"], "(known: float32, float64, bfloat16, float16)"),
        (["--training.compile", "yes"], "unknown training.compile 'yes'"),
        (["--training.device", "cuad"], "training.device 'cuad'; did you mean 'cuda'"),
        (["--network.width", "wide"], "network.width: expected an integer, got 'wide'"),
        (["--network.width", "2.5"], "network.width: expected an integer, got '2.5'"),
        (["--data.scale", "big"], "data.scale: expected a number, got 'big'"),
        (["--data.train", "101"], "data: train: expected at most 100, got 101"),
        (["--training.clip_norm", "x"], "training.clip_norm: expected a number or null, got 'x'"),
        (["--seed", "one"], "seed: expected an integer, got 'one'"),
        (["--seed", "-1"], "seed: expected zero or a positive integer, got -1"),
        (["--seed"], "--seed: expected one argument"),
        (["--model"], "--model: expected one argument"),
        (["quick"], "unexpected argument 'quick'"),
        (["--config", "missing.yaml"], "cannot read missing.yaml: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(UsageError) as raised:
        parse_train("vectors", options)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epoch: 1}", "unknown name in training 'epoch'; did you mean 'epochs'"),
        ("network: {widht: 1}", "unknown name in network 'widht'; did you mean 'width'"),
        ("data: {trian: 1}", "unknown name in data 'trian'; did you mean 'train'"),
        ("trainin: {}", "did you mean 'training'"),
        ("training: {epochs: many}", "training.epochs: expected an integer, got 'many'"),
        ("training: {epochs: 0}", "training.epochs: expected a positive number, got 0"),
        ("training: [1]", "training: expected names with values, got [1]"),
        ("training:", "training: expected names with values, got None"),
        ("- 1", "expected names with values, got [1]"),
        ("training: {epochs: 1", "is damaged or not YAML"),
        ("task: nbody", "is for 'nbody', not for 'vectors'"),
        ("data: {dataset: mutag}", "unknown name in data 'dataset'"),
        ("model: dens", "did you mean 'dense'"),
        ("seed: x", "seed: expected int, got 'x'"),
        ("seed: -1", "seed: expected zero or a positive integer, got -1"),
    ],
)
def test_wrong_configuration_files_are_explained(text, message, tmp_path):
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        parse_train("vectors", ["--config", str(file)])
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainin: {}", "did you mean 'training'"),
        ("models: {radail: {}}", "did you mean 'radial'"),
        ("models: {radial: {netwrok: {}}}", "did you mean 'network'"),
        ("models: {radial: {network: {widht: 1}}}", "did you mean 'width'"),
        ("model: radail", "did you mean 'radial'"),
        ("training: {epochs: -1}", "preset quick of vectors: training.epochs: expected a positive"),
    ],
)
def test_wrong_presets_are_explained(text, message, with_preset):
    with_preset(f"model: radial\n{text}" if "model:" not in text else text)
    with pytest.raises(UsageError) as raised:
        make_config("vectors")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"task: vectors\nmodel: radial", "preset, seed missing"),
        (b"task: vectors\nmodel: rad\npreset: quick\nseed: 0", "unknown model of vectors 'rad'"),
        (b"task: 5\nmodel: radial\npreset: quick\nseed: 0", "task: expected str, got 5"),
        (b"\x93\x00\xff", "is damaged or not YAML"),
        (b"", "expected names with values, got None"),
        (b"a: b: c", "is damaged or not YAML"),
    ],
    ids=str,
)
def test_damaged_configuration_of_a_run_is_explained(text, message, tmp_path):
    (tmp_path / "config.yaml").write_bytes(text)
    with pytest.raises(UsageError) as raised:
        load_config(tmp_path / "config.yaml")
    assert message in str(raised.value)


def test_folder_without_a_run_is_explained(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": -1e-3},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"weight_decay": -1.0},
        {"warmup_epochs": -0.5},
        {"clip_norm": 0.0},
        {"ema_decay": 1.0},
        {"ema_decay": 0.0},
        {"patience": 0},
        {"evaluate_every": 0},
        {"checkpoint_every": -1},
        {"threads": 0},
        {"workers": -1},
        {"device": "gpu"},
        {"device": "cuda:x"},
    ],
    ids=str,
)
def test_value_out_of_its_range_is_refused(values):
    (name,) = values
    with pytest.raises(UsageError, match=f"training.{name}"):
        TrainingConfig(**values)


@pytest.mark.parametrize(
    "values", [{"checkpoint_every": 0}, {"warmup_epochs": 0.5}, {"device": "cuda:1"}], ids=str
)
def test_value_at_the_edge_of_its_range_is_accepted(values):
    (name,) = values
    assert getattr(TrainingConfig(**values), name) == values[name]


def test_configuration_cannot_be_changed_in_place():
    config = RunConfig("vectors", "radial")
    with pytest.raises(AttributeError):
        config.seed = 1
    assert replace(config, seed=1).seed == 1


def test_help_shows_models_presets_and_defaults(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_train("vectors", ["--model", "dense", "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "Double random vectors.",
        "radial Stretches each vector by a function of its length.",
        "quick a moment on one core",
        "--preset PRESET one of the presets above (default: quick)",
        "--network.bias {true,false}",
        "--data.train INT training vectors (default: 6)",
        "--training.epochs INT passes over the training data (default: 1)",
        "--training.schedule {cosine,constant,step}",
    ):
        assert part in text
    assert "--network.width" not in text
