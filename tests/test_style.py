"""What no linter checks: the length of files and functions, and paths of one machine."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "docs", "eqlib", "kernels", "models", "tests")
FILES = [*ROOT.iterdir(), *(path for name in FOLDERS for path in (ROOT / name).rglob("*"))]
SOURCES = sorted(path for path in FILES if path.suffix == ".py")
TEXT = {".cff", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml"}
FOREIGN_PATH = re.compile(r"(?<![\w.~}>/-])/(?:home|root|Users|tmp|work|mnt|opt)/\w")


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring; those of a Triton kernel's body.

    What a kernel needs to know of every tensor and tile are arguments of its own: there is no other
    way to hand it anything.
    """
    lines = function.end_lineno - function.lineno + 1
    if any("jit" in ast.unparse(decorator) for decorator in function.decorator_list):
        lines -= function.body[0].lineno - function.lineno
    if ast.get_docstring(function) is not None:
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


def test_files_are_short():
    long = [str(path) for path in SOURCES if len(path.read_text().splitlines()) > 400]
    assert long == []


def test_functions_are_short():
    long = [
        f"{path}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > 40
    ]
    assert long == []


def test_no_path_of_one_machine():
    texts = [path for path in FILES if path.suffix in TEXT]
    paths = {str(path): FOREIGN_PATH.findall(path.read_text()) for path in texts}
    assert {path: found for path, found in paths.items() if found} == {}
