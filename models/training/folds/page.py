"""The report of a cross-validation as a page."""

from typing import Any

from eqlib.models.training.folds.options import FOLDS
from eqlib.models.training.procedure import Job
from eqlib.models.training.reports import circumstances, markdown_table


def folds_page(job: Job, figures: dict[str, Any], picture: str | None) -> str:
    """Return the report as a page of Markdown."""
    config, folds, rules = job.config, figures["folds"], figures["rules"]
    test = figures["test"]
    rows = [
        [name, f"{test[f'{name}_mean']:.4f} ± {test[f'{name}_std']:.4f}", text]
        for name, text in rules.items()
    ]
    columns = list(folds[0])
    table = [[_cell(entry[name]) for name in columns] for entry in folds]
    facts = _flat(figures["data"])
    facts["activations of a training step, bytes"] = figures["activation_bytes"]
    shown = figures | job.about | {"threads": config.training.threads}
    symmetry = [[dtype, f"{error:.1e}"] for dtype, error in figures["equivariance"].items()]
    sections = [
        f"# {job.task.data_name}: {config.model}, preset {config.preset}, seed {config.seed}",
        f"{len(folds)} of {FOLDS} folds, one network after the other.",
        markdown_table(["figure", "mean ± std", "what it is"], rows),
        "## Folds",
        markdown_table(columns, table),
        *([f"![Test curves of all folds]({picture})"] if picture else []),
        "## Data",
        markdown_table(["", ""], [[name, _cell(value)] for name, value in facts.items()]),
        "## Equivariance\n\nRelative error of the network of fold 1 on test data:",
        markdown_table(["dtype", "error"], symmetry),
        "## How it was made",
        f"```sh\n{job.about['command']}\n```",
        markdown_table(["", ""], circumstances(shown)),
    ]
    return "\n\n".join(sections) + "\n"


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts with those of a group under the group's name and their own."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        inner = value if isinstance(value, dict) else {}
        found |= {f"{name}: {key}": part for key, part in inner.items()} or {name: value}
    return {name.replace("_", " "): value for name, value in found.items()}


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
