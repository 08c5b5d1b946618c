"""Reference models, trained with `eqlib train TASK`."""

from importlib import import_module
from typing import TYPE_CHECKING

from eqlib.usage import unknown

if TYPE_CHECKING:
    from eqlib.models.training.task import Task

if __name__ != "eqlib.models":
    raise ImportError(
        f"this package was imported as {__name__!r}; import it as 'eqlib.models', "
        "so that each model exists once"
    )

TASKS: dict[str, str] = {
    "graphs": "eqlib.models.graphs:GraphClassification",
    "nbody": "eqlib.models.nbody:NBody",
    "normals": "eqlib.models.normals:Normals",
}
"""Where the class of each reference task lives, as ``module:Class``."""


def get_task(name: str) -> "type[Task]":
    """Return the class of a task.

    Args:
        name: one of `TASKS`, or ``module:Class`` for a task of your own.

    Raises:
        UsageError: there is no such task; the nearest name is suggested.
    """
    if name not in TASKS and ":" not in name:
        raise unknown("task", name, TASKS)
    module, _, attribute = TASKS.get(name, name).partition(":")
    try:
        task: type[Task] = getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        if name in TASKS:
            raise
        raise unknown("task", name, TASKS) from error
    return task
