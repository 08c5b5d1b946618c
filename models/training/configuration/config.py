"""Configurations: what makes up a run, the presets it starts from and the options users type.

A run's settings come in three groups: ``network`` (the arguments of the model's ``__init__``),
``data`` (the task's `options` dataclass) and ``training`` (`TrainingConfig`). A preset fills them
in first, then a configuration file, then the command line, the later ones overriding the earlier.
"""

import inspect
import json
import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from eqlib.models import get_task
from eqlib.models.training.configuration.presets import read_preset
from eqlib.models.training.configuration.settings import GROUPS, check_groups, merge, read_yaml
from eqlib.models.training.task import Task
from eqlib.options import Schema, Settings, as_arguments, check_keys, complete
from eqlib.usage import UsageError, unknown

Schedule = Literal["cosine", "constant", "step"]
Precision = Literal["float32", "float64", "bfloat16", "float16"]
Compile = Literal["no", "default", "reduce-overhead"]

_OPEN = (None, "auto")
"""Values of options that the data decide."""
_IDENTITY = {"task": str, "model": str, "preset": str, "seed": int}
_POSITIVE = (
    "epochs",
    "batch_size",
    "learning_rate",
    "step_epochs",
    "step_factor",
    "clip_norm",
    "patience",
    "evaluate_every",
)
_NOT_NEGATIVE = (
    "weight_decay",
    "warmup_epochs",
    "checkpoint_every",
    "checkpoint_seconds",
    "workers",
)


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Args:
        epochs: passes over the training data.
        batch_size: items per optimisation step, over all processes together.
        learning_rate: step size of the optimiser after the warm-up.
        weight_decay: decay of the weights per step, in units of the learning rate.
        warmup_epochs: epochs over which the learning rate rises linearly.
        schedule: learning rate after the warm-up; cosine falls to zero at the last step, step is
            multiplied by step_factor every step_epochs epochs.
        step_epochs: epochs between the falls of a learning rate that falls in steps.
        step_factor: what such a learning rate is multiplied by.
        clip_norm: largest norm of the gradient of all weights together; null does not clip.
        ema_decay: decay per step of the averaged weights that are evaluated; null evaluates the
            weights themselves.
        patience: evaluations without a better validation measure after which training stops; null
            never stops early.
        evaluate_every: epochs between evaluations on the validation data.
        checkpoint_every: steps between further checkpoints; 0 makes none.
        checkpoint_seconds: an evaluation leaves no checkpoint while the last one is younger than
            this; 0 leaves one at every evaluation.
        precision: floating-point type of the computation; bfloat16 and float16 keep the weights
            in float32.
        device: auto (CUDA where there is a GPU), cpu, cuda or cuda:N.
        threads: CPU threads of each process; null leaves the choice to torch.
        compile: mode of torch.compile; reduce-overhead uses CUDA graphs.
        workers: processes that read batches ahead; 0 reads them in the training process.
        tensorboard: whether to write TensorBoard events into the run's folder.

    Raises:
        UsageError: a value is out of its range.
    """

    epochs: int = 100
    batch_size: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_epochs: float = 0.0
    schedule: Schedule = "cosine"
    step_epochs: int = 50
    step_factor: float = 0.5
    clip_norm: float | None = None
    ema_decay: float | None = None
    patience: int | None = None
    evaluate_every: int = 1
    checkpoint_every: int = 500
    checkpoint_seconds: float = 0.0
    precision: Precision = "float32"
    device: str = "auto"
    threads: int | None = None
    compile: Compile = "no"
    workers: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in (*_POSITIVE, "threads"):
            self._check(name, "a positive number", lambda value: value > 0)
        for name in _NOT_NEGATIVE:
            self._check(name, "zero or a positive number", lambda value: value >= 0)
        if self.ema_decay is not None:
            self._check("ema_decay", "a number between 0 and 1", lambda value: 0 < value < 1)
        if not re.fullmatch(r"cpu|cuda(:\d+)?|auto", self.device):
            raise unknown("training.device", self.device, ("auto", "cpu", "cuda", "cuda:N"))

    def _check(self, name: str, expected: str, holds: Callable[[float], bool]) -> None:
        value = getattr(self, name)
        if value is not None and not (math.isfinite(value) and holds(value)):
            raise UsageError(f"training.{name}: expected {expected}, got {value}")


@dataclass(frozen=True)
class RunConfig:
    """All that determines a run, apart from where its data and its results lie.

    Args:
        task: name of the task.
        model: name of one of the task's models.
        preset: name of the preset that the settings started from.
        seed: seed of the weights, the order of the data and all other randomness.
        network: arguments of the model's ``__init__``; those left out take their defaults.
        data: fields of the task's `options`; those left out take their defaults.
        training: settings of the training loop.

    Raises:
        UsageError: the seed is negative.
    """

    task: str
    model: str
    preset: str = "quick"
    seed: int = 0
    network: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed: expected zero or a positive integer, got {self.seed}")

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration in the plain types of YAML and JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def make_config(
    task: str,
    model: str | None = None,
    preset: str = "quick",
    seed: int = 0,
    dataset: str | None = None,
) -> RunConfig:
    """Return the complete configuration that a preset gives.

    Args:
        task: name of the task.
        model: name of the model; None takes the preset's own choice.
        preset: name of the preset.
        seed: seed of all randomness.
        dataset: the data set, for tasks that have several; None takes the default one.

    Raises:
        UsageError: a name is unknown, or the preset's file holds a wrong name or value.
    """
    task_class = get_task(task)
    base = read_preset(task_class, preset)
    model = choose_model(task_class, model or base.default_model(dataset))
    config = RunConfig(task, model, preset, seed)
    found = base.settings(model, dataset)
    if dataset is not None:
        make_options(task_class, {"dataset": dataset})  # a wrong name is not the preset's fault
        found = merge(found, {"data": {"dataset": dataset}})
    return override(config, found, f"preset {preset} of {task_class.name}")


def override(config: RunConfig, settings: Settings, source: str = "") -> RunConfig:
    """Return a configuration in which some settings have other values, complete with defaults.

    Args:
        config: the configuration to start from.
        settings: values by group (``network``, ``data``, ``training``) and name.
        source: where the settings come from, for error messages.

    Raises:
        UsageError: a name is unknown, or a value is of the wrong type or out of its range.
    """
    base = config.to_dict()
    try:
        check_keys(settings, GROUPS, "settings")
        merged = merge({group: base[group] for group in GROUPS}, settings)
        merged["network"] = dict.fromkeys(_open_names(config)) | merged["network"]
        return _with_values(config, complete(schema_of(config), merged))
    except UsageError as error:
        raise UsageError(f"{source}: {error}" if source else str(error)) from error


def settle(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a configuration in which the options that the data decide have a value.

    Args:
        config: the configuration; where it has a value already, this stays.
        values: by name, among others those of the open options.
    """
    names = _open_names(config)
    settled = {
        name: values.get(name) if name in names and value in _OPEN else value
        for name, value in config.network.items()
    }
    return replace(config, network=settled)


def schema_of(config: RunConfig) -> Schema:
    """Return the classes whose arguments are a configuration's options, by group."""
    task = get_task(config.task)
    return {
        "network": task.models[config.model],
        "data": task.options,
        "training": TrainingConfig,
    }


def make_options(task: type[Task], values: Mapping[str, Any]) -> Any:
    """Return an instance of the task's data options.

    Raises:
        UsageError: the options refuse a value.
    """
    try:
        return task.options(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"data: {error}") from error


def choose_model(task: type[Task], model: str | None) -> str:
    """Return the name if the task has such a model; for no name, the task's only model.

    Raises:
        UsageError: the task has no such model, or no model is named and there are several.
    """
    if model is None and len(task.models) == 1:
        return next(iter(task.models))
    if model is None:
        raise UsageError(f"name a model with --model; {task.name} has {', '.join(task.models)}")
    if model not in task.models:
        raise unknown(f"model of {task.name}", model, task.models)
    return model


def save_config(config: RunConfig, path: Path) -> None:
    """Write a configuration as YAML."""
    path.write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))


def load_config(path: Path) -> RunConfig:
    """Read a configuration that `save_config` wrote.

    Raises:
        UsageError: the file is missing or damaged, or holds an unknown name or a wrong value.
    """
    if not path.exists():
        raise UsageError(f"{path.parent} holds no run: there is no {path.name} in it")
    content = read_settings(path)
    missing = [name for name in _IDENTITY if name not in content]
    if missing:
        raise UsageError(f"{path}: not the configuration of a run, {', '.join(missing)} missing")
    choose_model(get_task(content["task"]), content["model"])
    config = RunConfig(*(content[name] for name in _IDENTITY))
    return override(config, {group: content.get(group, {}) for group in GROUPS}, str(path))


def command_line(config: RunConfig) -> str:
    """Return the `eqlib train` command that trains this configuration from its preset."""
    dataset = config.data.get("dataset")
    preset = make_config(config.task, config.model, config.preset, config.seed, dataset).to_dict()
    if dataset is not None:
        preset["data"]["dataset"] = get_task(config.task).options().dataset  # another is an option
    words = ["eqlib", "train", config.task, "--model", config.model]
    words += ["--preset", config.preset, "--seed", str(config.seed)]
    settings = config.to_dict()
    changed = {
        group: {name: v for name, v in settings[group].items() if v != preset[group][name]}
        for group in GROUPS
    }
    return shlex.join([*words, *as_arguments(changed)])


def read_settings(path: Path) -> dict[str, Any]:
    """Return the content of a file that holds a configuration or a part of one.

    Raises:
        UsageError: the file cannot be read, or one of its names or their types is wrong.
    """
    content = check_keys(read_yaml(path), (*_IDENTITY, *GROUPS), str(path))
    check_groups(content, str(path))
    for name, kind in _IDENTITY.items():
        if type(content.get(name, kind())) is not kind:
            raise UsageError(f"{path}: {name}: expected {kind.__name__}, got {content[name]!r}")
    return dict(content)


def _with_values(config: RunConfig, values: Settings) -> RunConfig:
    """Return a configuration with these values, which are complete and in their declared types."""
    make_options(get_task(config.task), values["data"])
    return replace(
        config,
        network=dict(values["network"]),
        data=dict(values["data"]),
        training=TrainingConfig(**values["training"]),
    )


def _open_names(config: RunConfig) -> list[str]:
    """Return the arguments of the network that the data decide where nobody does."""
    task = get_task(config.task)
    arguments = inspect.signature(task.models[config.model]).parameters
    return [name for name in task.sized if name in arguments]
