"""The command ``python -m eqlib.models.graphs.brec``."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eqlib.models.graphs.brec.pairs import CATEGORIES, PAIRS, Source, read_brec
from eqlib.models.graphs.brec.protocol import Schedule, answer
from eqlib.models.graphs.brec.run import Row, category_of, over_seeds, run_pairs, summarise, table
from eqlib.models.graphs.variants import VARIANTS, check_variants
from eqlib.models.training.storage import write_durably
from eqlib.options import make_parser, parse_arguments
from eqlib.usage import UsageError, exit_code, unknown

OUTPUTS, WIDTH, LAYERS = 16, 16, 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the pairs that a command line asks for and return the exit code."""
    names = [category.name for category in CATEGORIES]
    parser = make_parser(
        "python -m eqlib.models.graphs.brec",
        "--out DIR [--model MODEL ...] [options]",
        "Train a network on each pair of BREC and test whether it tells the two graphs apart.",
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the results; has to be given")
    parser.add_argument(
        "--model", nargs="+", default=["gin"], metavar="MODEL", help=", ".join(VARIANTS)
    )
    parser.add_argument(
        "--category", nargs="+", default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds, one run each")
    parser.add_argument("--width", type=int, default=WIDTH, help="channels")
    parser.add_argument("--layers", type=int, default=LAYERS, help="layers")
    parser.add_argument("--limit", type=int, default=PAIRS, help="pairs of each category at most")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data")
    try:
        given = parse_arguments(parser, sys.argv[1:] if arguments is None else list(arguments))
        if given.out is None:
            raise UsageError("--out: expected a folder; finished pairs there are not judged again")
        check_variants(given.model)
        pairs = choose_pairs(given.category, given.limit)
        source = read_brec(None if given.data_dir is None else Path(given.data_dir))
        folder = Path(given.out)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {"width": given.width, "layers": given.layers}
        summaries = {
            model: run_model(model, sizes, source, folder, given.seeds, pairs)
            for model in given.model
        }
    except (OSError, ValueError) as error:
        print(f"brec: {error}", file=sys.stderr)
        return exit_code(error)
    print(table(summaries))
    return 0


def run_model(
    model: str,
    sizes: dict[str, int],
    source: Source,
    folder: Path,
    seeds: Sequence[int],
    pairs: Sequence[int],
) -> Row:
    """Judge pairs with a network of `VARIANTS`, write its report, and return the first summary."""
    make = partial(VARIANTS[model].make, node_types=1, outputs=OUTPUTS, nodes=198, **sizes)
    settings = {"model": model, **sizes}
    summaries = []
    for seed in seeds:
        path = folder / f"{model}-seed{seed}.jsonl"
        rows = run_pairs(make, source, path, seed, pairs, Schedule(), settings, tell)
        summaries.append(summarise(rows, OUTPUTS))
    write_report(folder / f"{model}.json", settings, seeds, summaries)
    return summaries[0]


def choose_pairs(names: Sequence[str], limit: int = PAIRS) -> list[int]:
    """Return the numbers of the pairs of some categories, in the order of the names.

    Raises:
        UsageError: there is no such category.
    """
    known = {category.name: category for category in CATEGORIES}
    for name in names:
        if name not in known:
            raise unknown("category", name, known)
    return [
        pair
        for name in names
        for pair in range(known[name].start, min(known[name].stop, known[name].start + limit))
    ]


def tell(row: Row, number: int, pairs: int, outputs: int = OUTPUTS) -> None:
    """Print one line on a pair that has been judged.

    Args:
        row: what came of it.
        number: which of the pairs to judge it is.
        pairs: how many these are.
        outputs: numbers per graph.
    """
    verdict = "distinguished" if answer(row, outputs=outputs).distinguished else "not distinguished"
    values = (row["pair"]["ridge"], row["alone"]["ridge"])
    pair, alone = ("not finite" if value is None else f"{value:.3g}" for value in values)
    print(
        f"[{number}/{pairs}] pair {row['index']} ({category_of(row['index']).name}, "
        f"{row['nodes']} nodes): {verdict}; T^2 {pair}, alone {alone}; {row['epochs']} epochs, "
        f"{row['seconds']:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def write_report(path: Path, settings: Row, seeds: Sequence[int], summaries: list[Row]) -> None:
    """Write the counts of all seeds of a network."""
    report = settings | {
        "seeds": list(seeds),
        "dtype": "float64",
        "over_seeds": over_seeds(summaries),
        "by_seed": summaries,
    }
    write_durably(path, (json.dumps(report, indent=2) + "\n").encode())
