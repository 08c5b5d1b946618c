"""The commands of docs/graphs.md, and its last example, on small stand-ins of the data."""

import re
import shlex
from pathlib import Path

import pytest

from eqlib.cli import main
from eqlib.models.graphs import compare
from eqlib.models.graphs.data import collection, options
from tests.models.graphs.folds import random_graphs, write_folds, write_text

PAGE = (Path(__file__).parents[3] / "docs" / "graphs.md").read_text()


def command(start):
    """The words of the command on the page that starts so."""
    (line,) = re.findall(rf"^{start}.*$", PAGE.replace("\\\n", ""), re.MULTILINE)
    return shlex.split(line)


@pytest.fixture
def tu(tmp_path, monkeypatch):
    """The folder of the sets, below the current one as the page has it."""
    monkeypatch.chdir(tmp_path)
    return Path("data/graphs/tu")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # on import of PyG
def test_a_trained_network_predicts(tu, capsys):
    write_text(tu / "MUTAG", "MUTAG", random_graphs(43))
    write_folds(tu / "MUTAG", 43)
    train = command("eqlib train graphs --dataset mutag")
    assert main([*train[1:], "--training.epochs", "2"]) == 0
    capsys.readouterr()
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[-1]
    assert "load_model" in code
    exec(code, {})
    assert re.fullmatch(r"tensor\(\[\[0\.\d+, 0\.\d+\]\]\)\n", capsys.readouterr().out)
    for other in ("eqlib evaluate", "eqlib check"):
        (words,) = re.findall(rf"`({other}\s[^`]*)`", PAGE)
        assert main(words.split()[1:]) == 0


def test_a_set_of_ones_own_takes_one_line(tu, capsys, monkeypatch):
    (names,) = re.findall(r'^    "mine": (Names\(.*?\)),', PAGE, re.MULTILINE)
    monkeypatch.setitem(collection.COLLECTIONS, "mine", eval(names, vars(collection)))
    monkeypatch.setattr(options, "DATASETS", (*options.DATASETS, "mine"))
    write_text(tu / "MINE", "MINE", random_graphs(43))
    train = command("eqlib train graphs --dataset mine")
    assert main([*train[1:], "--folds", "2", "--training.epochs", "1"]) == 0
    capsys.readouterr()
    assert compare.main(command("python -m eqlib.models.graphs.compare")[3:]) == 0
    assert "2 of 10 stratified folds of our own" in capsys.readouterr().out
