"""All pairs of BREC, one line of JSON after each so that a run goes on where it was stopped."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eqlib.models.graphs.brec.pairs import CATEGORIES, PAIRS, Category, Source
from eqlib.models.graphs.brec.protocol import MakeNetwork, Schedule, answer, judge
from eqlib.models.graphs.brec.statistic import threshold
from eqlib.models.training.loop import derive_seed
from eqlib.models.training.reports import markdown_table
from eqlib.models.training.storage import append_text
from eqlib.usage import UsageError

Row = dict[str, Any]
Tell = Callable[[Row, int, int], None]
"""Is given a new row, which pair of those to judge it is, counted from 1, and their number."""

GROUPS = {
    "basic": ("basic",),
    "regular": ("regular", "strongly_regular", "4_vertex", "distance_regular"),
    "extension": ("extension",),
    "cfi": ("cfi",),
}
"""The four groups of published tables, of 60, 140, 100 and 100 pairs."""


def run_pairs(
    make: MakeNetwork,
    source: Source,
    path: Path,
    seed: int,
    pairs: Sequence[int] = range(PAIRS),
    schedule: Schedule | None = None,
    settings: Row | None = None,
    tell: Tell | None = None,
) -> list[Row]:
    """Judge pairs with a fresh network each, and write a line after each.

    Args:
        make: makes a network.
        source: of the relabelled graphs.
        path: file of JSON lines. Pairs that it has are not judged again.
        seed: of weights and relabellings.
        pairs: their numbers, in the order in which to judge them.
        schedule: of the trainings.
        settings: what the first line says of the network.
        tell: called after each pair that is judged.

    Returns:
        The rows of the file.

    Raises:
        UsageError: the file is of other settings.
    """
    schedule = schedule or Schedule()
    head = {"seed": seed, "schedule": schedule._asdict(), "settings": settings or {}}
    rows = resume(path, head)
    done = {row["index"] for row in rows}
    for number, index in enumerate(pairs, start=1):
        if index in done:
            continue
        network = make(derive_seed("brec weights", seed, index))
        copies = source.copies(index, seed)
        nodes = int(copies.pair.node_ptr[1])
        verdict = judge(network, copies, schedule)
        row = {"index": index, "category": category_of(index).name, "nodes": nodes}
        row |= verdict.to_dict()
        append_text(path, json.dumps(row) + "\n")
        rows.append(row)
        if tell is not None:
            tell(row, number, len(pairs))
    return rows


def resume(path: Path, head: Row) -> list[Row]:
    """Return the rows of a file, or start it with a line on its settings.

    A last line that a crash has cut off is removed.

    Raises:
        UsageError: the first line has other settings, or a line is not JSON.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    if not whole:
        append_text(path, json.dumps(head) + "\n")
        return []
    try:
        first, *rows = (json.loads(line) for line in whole.splitlines())
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: a line is not JSON ({error}); remove the file") from error
    expected = json.loads(json.dumps(head))
    if first != expected:
        raise UsageError(
            f"{path}: holds results of {first}, not of {expected}; name another folder or remove it"
        )
    return rows


def category_of(index: int) -> Category:
    """Return the category of a pair."""
    return next(category for category in CATEGORIES if index < category.stop)


def summarise(rows: Sequence[Row], outputs: int = 16) -> Row:
    """Count the pairs that are distinguished, by category and by the groups of published tables.

    A pair counts where it is correct and reliable. The counts of all three forms of the statistic
    are there; that with the ridge decides.
    """
    counts = {category.name: _count(rows, (category.name,), outputs) for category in CATEGORIES}
    groups = {name: _count(rows, members, outputs) for name, members in GROUPS.items()}
    everything = tuple(category.name for category in CATEGORIES)
    return {
        "threshold": round(threshold(outputs=outputs), 4),
        "total": _count(rows, everything, outputs),
        "groups": groups,
        "categories": counts,
        "largest_alone": max((row["alone"]["ridge"] or 0.0 for row in rows), default=0.0),
    }


def _count(rows: Sequence[Row], names: Sequence[str], outputs: int) -> Row:
    mine = [row for row in rows if row["category"] in names]
    ours, *others = (
        [answer(row, form, outputs) for row in mine] for form in ("ridge", "pinv", "released")
    )
    textbook, released = (sum(each.distinguished for each in form) for form in others)
    return {
        "pairs": sum(each.stop - each.start for each in CATEGORIES if each.name in names),
        "judged": len(mine),
        "distinguished": sum(each.distinguished for each in ours),
        "correct": sum(each.correct for each in ours),
        "unreliable": sum(not each.reliable for each in ours),
        "distinguished_pinv": textbook,
        "distinguished_released": released,
    }


def over_seeds(summaries: Sequence[Row]) -> Row:
    """Return the counts of several seeds, with their mean and spread."""
    found = {}
    for name in ("total", *GROUPS):
        counts = [each["total"] if name == "total" else each["groups"][name] for each in summaries]
        values = [count["distinguished"] for count in counts]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        found[name] = {"mean": statistics.fmean(values), "std": spread, "counts": values}
    return found


def table(summaries: dict[str, Row]) -> str:
    """Return a Markdown table, one row for each network."""
    head = ["network", *(category.name.replace("_", " ") for category in CATEGORIES), "all"]
    head += ["unreliable", "pseudo-inverse", "released script"]
    rows = []
    for name, summary in summaries.items():
        total = summary["total"]
        cells = [_cell(summary["categories"][category.name]) for category in CATEGORIES]
        rest = ("unreliable", "distinguished_pinv", "distinguished_released")
        rows.append([name, *cells, _cell(total), *(str(total[each]) for each in rest)])
    return markdown_table(head, rows)


def _cell(count: Row) -> str:
    whole = f"{count['distinguished']} of {count['judged']}"
    return whole if count["judged"] == count["pairs"] else f"{whole} (judged, of {count['pairs']})"
