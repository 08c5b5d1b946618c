"""The arguments of `eqlib train`: its options depend on the task, the model and the preset."""

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace

from eqlib.models import get_task
from eqlib.models.training.configuration.config import (
    RunConfig,
    make_config,
    make_options,
    override,
    read_settings,
    schema_of,
)
from eqlib.models.training.configuration.presets import preset_names, read_preset
from eqlib.models.training.configuration.settings import GROUPS
from eqlib.models.training.task import Task
from eqlib.options import (
    add_options,
    make_parser,
    parse_arguments,
    values_by_group,
)
from eqlib.usage import UsageError

SHORT_OPTIONS = ("dataset", "fold", "folds")
"""Data options that are typed without their group, by the tasks that have them."""
_EPILOG = """\
A preset fills in the options first, then --config, then the command line; the later value counts.
The folder of a run holds config.yaml, metrics.csv, metrics.jsonl, checkpoints/ and, at the end,
curves.png, predictions.png, report.md and report.json.

examples:
  eqlib train {task} --model {model} --preset {preset} --seed 1
  eqlib train {task} --model {model} --training.learning_rate 5e-4 --out runs/slower
  eqlib train {task} --model {model} --out runs/slower --resume
  torchrun --nproc-per-node 2 -m eqlib train {task} --model {model}
"""
_FOLDS_EPILOG = """\

With --folds every fold is a run in a folder fold-K-RULE of its own, and the report, the picture
folds.png and the figures printed at the end are those of all of them together.
"""


class TrainCommand(NamedTuple):
    """What `eqlib train` is asked to do."""

    config: RunConfig
    out: Path
    resume: bool
    data_dir: Path | None


def parse_train(task: str, options: Sequence[str]) -> TrainCommand:
    """Return what a command line asks for; ``--help`` prints the help and exits.

    Args:
        task: name of the task, the word after ``eqlib train``.
        options: the words after it.

    Raises:
        UsageError: a name is unknown, or a value or a file is wrong.
    """
    start = _starting_point(task, options)
    schema = schema_of(start)
    parser = _make_parser(start)
    add_options(parser, schema, _group_titles(start))
    defaults = start.to_dict()
    parser.set_defaults(
        {f"{group}.{name}": value for group in GROUPS for name, value in defaults[group].items()}
    )
    given = parse_arguments(parser, options, schema)
    values = values_by_group(schema, given)
    values["data"] |= short_values(given, get_task(task))
    config = override(replace(start, seed=given.seed), values)
    out = default_folder(config) if given.out is None else Path(given.out)
    data_dir = None if given.data_dir is None else Path(given.data_dir)
    return TrainCommand(config, out, given.resume, data_dir)


def add_short_options(group: Any, task: type[Task]) -> None:
    """Add the data options of a task that are typed without their group."""
    for name in _short_options(task):
        kind = str if name == "dataset" else int
        group.add_argument(f"--{name}", type=kind, help=f"the same as --data.{name}")


def short_values(given: Namespace, task: type[Task]) -> dict[str, Any]:
    """Return the values of those among these options that are given."""
    values = {name: given[name] for name in _short_options(task)}
    return {name: value for name, value in values.items() if value is not None}


def default_folder(config: RunConfig) -> Path:
    """Return the folder of a run for which none is named, relative to the current one."""
    task = get_task(config.task)
    name = f"{config.model}-{config.preset}-seed{config.seed}"
    dataset = config.data.get("dataset")
    folder = Path("runs") / task.name
    if dataset is not None and dataset != task.options().dataset:
        folder /= dataset
    return folder / name


def _short_options(task: type[Task]) -> list[str]:
    return [name for name in SHORT_OPTIONS if name in inspect.signature(task.options).parameters]


def _starting_point(task: str, options: Sequence[str]) -> RunConfig:
    """Return the configuration that preset and configuration file give, on the data set typed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--model", "--preset", "--config"):
        parser.add_argument(name)
    parser.add_argument("--dataset", "--data.dataset")
    try:
        chosen, _ = parser.parse_known_args(options)
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    content = {} if chosen.config is None else read_settings(Path(chosen.config))
    if content.get("task", task) != task:
        raise UsageError(f"{chosen.config} is for {content['task']!r}, not for {task!r}")
    preset = chosen.preset or content.get("preset", "quick")
    model = chosen.model or content.get("model")
    dataset = chosen.dataset or content.get("data", {}).get("dataset")
    if "dataset" not in _short_options(get_task(task)):
        dataset = None  # what names it is refused where all options are read
    config = make_config(task, model, preset, content.get("seed", 0), dataset)
    config = override(config, {g: content[g] for g in GROUPS if g in content}, str(chosen.config))
    if dataset is None:
        return config
    return replace(config, data=config.data | {"dataset": dataset})


def _make_parser(start: RunConfig) -> ArgumentParser:
    """Return the parser of the options that all tasks share."""
    task = get_task(start.task)
    folder = default_folder(start).parent
    chosen = start.task if folder.name == task.name else f"{start.task} --dataset {folder.name}"
    words = {"task": chosen, "model": start.model, "preset": start.preset}
    parser = make_parser(
        f"eqlib train {start.task}",
        "[--model MODEL] [--preset PRESET] [--seed N] [--out DIR] [--resume] [options]",
        _description(task),
        _EPILOG.format(**words) + (_FOLDS_EPILOG if "folds" in _short_options(task) else ""),
    )
    run = parser.add_argument_group("run")
    for name, metavar, default, text in (
        ("model", "MODEL", start.model, "one of the models above"),
        ("preset", "PRESET", start.preset, "one of the presets above"),
        ("out", "DIR", None, f"folder of the run (default: {folder}/MODEL-PRESET-seedN)"),
        ("data-dir", "DIR", None, "folder of the data (default: the user's cache folder)"),
        ("config", "FILE", None, "YAML file of options, such as the config.yaml of another run"),
    ):
        run.add_argument(f"--{name}", metavar=metavar, default=default, help=text)
    add_short_options(run, task)
    seed = "seed of the weights, of the order of the data and of all other randomness"
    run.add_argument("--seed", type=int, default=start.seed, help=seed)
    run.add_argument("--resume", action="store_true", help="continue the run in the folder")
    run.add_argument("--traceback", action="store_true", help="show where an error comes from")
    return parser


def _description(task: type[Task]) -> str:
    """Return what the help says first: the task, its models and its presets."""
    models = {name: _first_line(model) for name, model in task.models.items()}
    presets = {name: read_preset(task, name).about for name in preset_names(task)}
    parts = [_first_line(task)]
    for title, entries in (("models", models), ("presets", presets)):
        width = max(map(len, entries))
        lines = [f"  {name.ljust(width)}  {text}".rstrip() for name, text in entries.items()]
        parts.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(parts)


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _group_titles(start: RunConfig) -> dict[str, str]:
    is_sized = any(value is None for value in start.network.values())
    task = get_task(start.task)
    chosen = {name: value for name, value in start.data.items() if name == "dataset"}
    return {
        "network": f"network: {start.model}{' (null: as the data have it)' if is_sized else ''}",
        "data": f"data: {task(make_options(task, chosen)).data_name}",
        "training": f"training: defaults of {start.model} in preset {start.preset}",
    }
