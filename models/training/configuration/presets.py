"""Presets: the settings that a run starts from, by model and by data set."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from eqlib.models.training.configuration.settings import GROUPS, check_groups, merge, read_yaml
from eqlib.models.training.task import Task
from eqlib.options import Settings, check_keys
from eqlib.usage import UsageError, unknown

PRESETS = ("quick", "cpu", "gpu", "paper")
_SECTION = ("model", "data", "training", "models")


class Section(NamedTuple):
    """The settings of a preset, or what it adds to them for one data set."""

    model: str | None
    """The model to train when none is named."""
    common: Settings
    """Data and training settings of all models."""
    models: Mapping[str, Settings]
    """What single models add or override."""


class Preset(NamedTuple):
    """A preset as its YAML file states it."""

    about: str
    """What it is for, in a line."""
    usual: Section
    datasets: Mapping[str, Section]
    """What single data sets add or override."""

    def default_model(self, dataset: str | None = None) -> str | None:
        """Return the model to train when none is named."""
        chosen = [section.model for section in self._sections(dataset) if section.model]
        return chosen[-1] if chosen else None

    def settings(self, model: str, dataset: str | None = None) -> Settings:
        """Return the settings of one model on one data set, by default those of all."""
        found: Settings = {}
        for section in self._sections(dataset):
            found = merge(merge(found, section.common), section.models.get(model, {}))
        return found

    def _sections(self, dataset: str | None) -> list[Section]:
        added = None if dataset is None else self.datasets.get(dataset)
        return [self.usual] if added is None else [self.usual, added]


def preset_names(task: type[Task]) -> list[str]:
    """Return the names of a task's presets, the four usual ones first."""
    found = {path.stem for path in task.presets.glob("*.yaml")}
    return [name for name in PRESETS if name in found] + sorted(found.difference(PRESETS))


def read_preset(task: type[Task], name: str) -> Preset:
    """Return a preset of a task.

    Raises:
        UsageError: there is no such preset, or its file is damaged or holds an unknown name.
    """
    names = preset_names(task)
    if name not in names:
        raise unknown(f"preset of {task.name}", name, names)
    path = task.presets / f"{name}.yaml"
    content = check_keys(read_yaml(path), ("about", *_SECTION, "datasets"), str(path))
    datasets = content.get("datasets", {})
    if not isinstance(datasets, Mapping):
        raise UsageError(f"{path}: datasets: expected names with values, got {datasets!r}")
    sections = {}
    for dataset, settings in datasets.items():
        where = f"{path}: datasets.{dataset}"
        _check_dataset(task, dataset, where)
        check_keys(settings, _SECTION, where)
        sections[dataset] = _section(task, settings, where)
    return Preset(content.get("about", ""), _section(task, content, str(path)), sections)


def _section(task: type[Task], content: Mapping[str, Any], where: str) -> Section:
    models = content.get("models", {})
    check_keys(models, task.models, f"{where}: models")
    check_groups(content, where)
    for model, settings in models.items():
        check_keys(settings, GROUPS, f"{where}: models.{model}")
        check_groups(settings, f"{where}: models.{model}")
    common = {group: content[group] for group in ("data", "training") if group in content}
    return Section(content.get("model"), common, models)


def _check_dataset(task: type[Task], dataset: str, where: str) -> None:
    """Refuse a data set that the task's options do not know."""
    try:
        task.options(dataset=dataset)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error
