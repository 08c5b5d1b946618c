"""The presets of all sets with folds, and the published schedules among them."""

import inspect

import pytest

from eqlib.models.graphs import GraphClassification
from eqlib.models.graphs.brec.command import LAYERS, WIDTH
from eqlib.models.graphs.data import COLLECTIONS
from eqlib.models.graphs.variants import VARIANTS
from eqlib.models.training.configuration import command_line, make_config, parse_train

PRESETS = ["quick", "cpu", "gpu", "paper"]
NETWORKS = ["spen", "gin", "ppgn", "fa_gin"]


@pytest.mark.parametrize("dataset", [*COLLECTIONS, "exp_classify"])
@pytest.mark.parametrize("preset", PRESETS, ids=lambda name: f"{name}.yaml")
def test_every_network_has_settings_for_every_set(preset, dataset):
    for model in NETWORKS:
        config = make_config("graphs", model, preset, 0, dataset)
        network = {name: value for name, value in config.network.items() if value is not None}
        with_sizes = network | ({"nodes": 8} if model == "fa_gin" else {})
        assert GraphClassification.models[model](**with_sizes)
        assert config.training.epochs >= 10


def test_the_data_set_is_a_part_of_the_configuration():
    config = make_config("graphs", model="gin", dataset="mutag")
    assert config.data["dataset"] == "mutag"
    assert make_config("graphs", model="gin").data["dataset"] == "exp_classify"
    command = "eqlib train graphs --model gin --preset quick --seed 0 --data.dataset mutag"
    assert command_line(config) == command
    assert parse_train("graphs", command.split()[3:]).config == config


@pytest.mark.parametrize("preset", PRESETS, ids=lambda name: f"{name}.yaml")
def test_exp_keeps_its_settings(preset):
    """Its committed figures are of these."""
    training = make_config("graphs", "fa_gin", preset).training
    epochs = {"quick": 60, "cpu": 150, "gpu": 150, "paper": 1000}
    assert (training.epochs, training.batch_size) == (epochs[preset], 50)
    assert training.schedule == ("constant" if preset == "paper" else "cosine")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda name: f"{name}.yaml")
def test_brec_has_its_protocol(preset):
    training = make_config("graphs", "ppgn", preset, 0, "brec").training
    assert (training.epochs, training.batch_size, training.precision) == (20, 16, "float64")
    assert (training.learning_rate, training.weight_decay) == (1.0e-4, 1.0e-4)
    assert (training.schedule, training.clip_norm, training.warmup_epochs) == ("constant", None, 0)


@pytest.mark.parametrize("model", GraphClassification.models)
@pytest.mark.parametrize("preset", PRESETS, ids=lambda name: f"{name}.yaml")
def test_both_commands_judge_brec_with_the_same_networks(preset, model):
    network, options = VARIANTS[model]
    parameters = inspect.signature(network).parameters.items()
    defaults = {name: parameter.default for name, parameter in parameters}
    sized = dict.fromkeys(GraphClassification.sized & defaults.keys())
    expected = defaults | options | {"width": WIDTH, "layers": LAYERS} | sized
    assert make_config("graphs", model, preset, 0, "brec").network == expected


@pytest.mark.parametrize(
    ("dataset", "batch", "rate", "width", "layers"),
    [
        ("mutag", 4, 1.5e-3, 64, 5),
        ("ptc", 16, 6.0e-4, 16, 4),
        ("proteins", 16, 6.4e-4, 16, 8),
        ("nci1", 32, 6.0e-4, 16, 4),
        ("nci109", 32, 6.0e-4, 64, 6),
        ("imdb_binary", 16, 6.4e-4, 32, 6),
        ("imdb_multi", 32, 6.4e-4, 16, 4),
    ],
)
def test_spen_has_its_published_schedule(dataset, batch, rate, width, layers):
    config = make_config("graphs", "spen", "paper", 0, dataset)
    training, network = config.training, config.network
    assert (training.batch_size, training.learning_rate) == (batch, rate)
    assert (training.schedule, training.step_epochs, training.step_factor) == ("step", 30, 0.1)
    assert (training.epochs, training.weight_decay) == (50, 0)
    assert (network["width"], network["layers"], network["norm"]) == (width, layers, "graph")


@pytest.mark.parametrize(
    ("dataset", "epochs", "rate", "factor"),
    [
        ("mutag", 500, 1.0e-4, 1.0),
        ("ptc", 400, 1.0e-4, 1.0),
        ("proteins", 100, 1.0e-3, 0.5),
        ("nci1", 200, 1.0e-4, 0.75),
        ("nci109", 250, 1.0e-4, 0.75),
        ("imdb_binary", 100, 5.0e-5, 0.5),
        ("imdb_multi", 150, 1.0e-4, 0.75),
    ],
)
def test_ppgn_has_its_published_schedule(dataset, epochs, rate, factor):
    config = make_config("graphs", "ppgn", "paper", 0, dataset)
    training, network = config.training, config.network
    assert (training.epochs, training.learning_rate) == (epochs, rate)
    assert (training.schedule, training.step_epochs, training.step_factor) == ("step", 20, factor)
    assert training.batch_size == 5
    assert (network["width"], network["layers"], network["pool"]) == (400, 3, "max")


@pytest.mark.parametrize(
    ("dataset", "graphs"),
    [
        ("mutag", 170),
        ("ptc", 310),
        ("proteins", 1002),
        ("nci1", 3699),
        ("nci109", 3715),
        ("imdb_binary", 900),
        ("imdb_multi", 1350),
    ],
)
def test_gin_takes_as_many_steps_as_published(dataset, graphs):
    training = make_config("graphs", "gin", "paper", 0, dataset).training
    steps = -(-graphs // training.batch_size)
    assert steps * training.epochs == pytest.approx(350 * 50, rel=0.02)
    assert steps * training.step_epochs == pytest.approx(50 * 50, rel=0.04)
