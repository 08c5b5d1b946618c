"""What may import what, and what `import eqlib` imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_BASE = {"kernels", "harmonics", "geometry"}
_BELOW = {*_BASE, "symmetry"}
LAYERS = {
    "kernels": set(),
    "harmonics": {"kernels"},
    "geometry": {"kernels"},
    "symmetry": _BASE,
    "frames": _BELOW,
    "steerable": _BELOW,
    "gaunt": {*_BELOW, "steerable"},
    "position_orientation": {*_BELOW, "frames"},
    "subgraph": _BELOW,
}
COMMAND = {"cli", "doctor", "options", "usage", "version", "__main__", "__init__"}
"""The files of eqlib/ itself: they may import all layers, but only the command the models."""

ALLOWED = {
    **{layer: {*below, layer, "version"} for layer, below in LAYERS.items()},
    **{file: {*LAYERS, *COMMAND} for file in COMMAND},
    "models": {*LAYERS, *COMMAND, "models"},
    "cli": {*LAYERS, *COMMAND, "models"},
}

LAZY = {"triton", "e3nn", "torch_geometric", "torch_scatter", "matplotlib", "eqlib.models"}
"""What is slow to import or optional: imported where it is used."""

TRITON_SOURCES = {"triton_common.py", "triton_kernels.py", "triton_gradients.py", "triton_rows.py"}
"""What is written in Triton: imported by what launches it."""

FILES = sorted(
    path for folder in ("eqlib", "kernels", "models") for path in (ROOT / folder).rglob("*.py")
)

KERNELS_MAY_USE = {
    *sys.stdlib_module_names,
    "torch",
    "triton",
    "jaxtyping",
    "platformdirs",
    "eqlib",
}


def layer_of(path: Path) -> str:
    """The layer of a file: its folder, or its own name in eqlib/."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "eqlib" else parts[0]


def imports(tree: ast.AST, in_functions: bool) -> Iterator[str]:
    """Full names of what a file imports, in its functions too or when it is imported itself."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)
        elif in_functions or not (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            yield from imports(node, in_functions)


def strays(layer: str, code: str, file: str = "module.py") -> list[str]:
    """The imports that a file of this layer may not have."""
    tree = ast.parse(code)
    found = []
    for name in imports(tree, in_functions=True):
        package, _, module = name.partition(".")
        if package == "eqlib" and module.partition(".")[0] not in ALLOWED[layer]:
            found.append(name)
        if layer == "kernels" and package not in KERNELS_MAY_USE:
            found.append(name)
    for name in imports(tree, in_functions=False):
        parts = name.split(".")
        slow = {parts[0], ".".join(parts[:2])} & LAZY
        if slow and layer != "models" and file not in TRITON_SOURCES:
            found.append(f"{name} outside functions")
    return found


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_files_import_only_what_their_layer_may(layer):
    files = [path for path in FILES if layer_of(path) == layer]
    found = {str(path): strays(layer, path.read_text(), path.name) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def test_every_file_belongs_to_a_layer():
    assert {layer_of(path) for path in FILES} <= ALLOWED.keys()


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ("symmetry", "from eqlib.frames import pca_frames"),
        ("symmetry", "def load():\n    from eqlib import frames"),
        ("symmetry", "from e3nn import o3"),
        ("geometry", "try:\n    import torch_scatter\nexcept ImportError:\n    pass"),
        ("frames", "import eqlib.models.nbody"),
        ("kernels", "import numpy"),
        ("doctor", "def check():\n    from eqlib import models"),
        ("cli", "from eqlib.models import TASKS"),
        ("gaunt", "import eqlib.frames"),
    ],
    ids=str,
)
def test_control_wrong_imports_are_found(layer, code):
    assert len(strays(layer, code)) >= 1


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ("symmetry", "from eqlib.geometry import segment_mean\nfrom eqlib.symmetry import E"),
        ("symmetry", "def load():\n    from e3nn import o3"),
        ("symmetry", "if TYPE_CHECKING:\n    from e3nn import o3"),
        ("models", "import matplotlib\nfrom eqlib.frames import pca_frames"),
        ("cli", "def main():\n    from eqlib.models import TASKS"),
        ("gaunt", "from eqlib.steerable import Linear"),
    ],
    ids=str,
)
def test_control_right_imports_pass(layer, code):
    assert strays(layer, code) == []


def modules_after(code: str) -> set[str]:
    """Names of the modules that a new interpreter has imported after running some code."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_of_eqlib_loads_nothing_else():
    loaded = modules_after("import eqlib") - modules_after("import importlib, typing")
    assert loaded == {"eqlib", "eqlib.version"}


def test_layers_load_when_they_are_used_and_without_what_is_slow():
    loaded = modules_after(
        "import torch, eqlib\n"
        "assert eqlib.check is eqlib.symmetry.equivariance_error\n"
        "eqlib.geometry, eqlib.frames, eqlib.harmonics, eqlib.steerable, eqlib.gaunt\n"
        "eqlib.position_orientation, eqlib.subgraph"
    )
    layers = ["symmetry", "frames", "steerable", "gaunt", "position_orientation", "subgraph"]
    assert {f"eqlib.{layer}" for layer in layers} <= loaded
    assert loaded & LAZY == set()
    # control: representations that need e3nn load it, and it loads triton where that is installed
    assert "e3nn" in modules_after("from eqlib.symmetry import Irreps; Irreps('1o')")


def test_what_eqlib_has_is_listed():
    import eqlib

    layers = ["frames", "gaunt", "geometry", "harmonics", "position_orientation"]
    assert dir(eqlib) == ["__version__", "check", *layers, "steerable", "subgraph", "symmetry"]
    with pytest.raises(AttributeError, match=r"'eqlib' has no attribute 'chek'; it has .*check"):
        eqlib.chek  # noqa: B018 - the access is the test
