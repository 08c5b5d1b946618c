"""What makes up a run: its settings, the presets they start from, the options users type."""

from eqlib.models.training.configuration.command import (
    SHORT_OPTIONS,
    TrainCommand,
    add_short_options,
    parse_train,
    short_values,
)
from eqlib.models.training.configuration.config import (
    RunConfig,
    TrainingConfig,
    command_line,
    load_config,
    make_config,
    make_options,
    override,
    save_config,
    settle,
)
from eqlib.models.training.configuration.presets import preset_names, read_preset
from eqlib.models.training.configuration.settings import GROUPS, check_groups, read_yaml

__all__ = [
    "GROUPS",
    "SHORT_OPTIONS",
    "RunConfig",
    "TrainCommand",
    "TrainingConfig",
    "add_short_options",
    "check_groups",
    "command_line",
    "load_config",
    "make_config",
    "make_options",
    "override",
    "parse_train",
    "preset_names",
    "read_preset",
    "read_yaml",
    "save_config",
    "settle",
    "short_values",
]
