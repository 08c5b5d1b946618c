"""Every way of installing gives `eqlib`, `eqlib.kernels`, `eqlib.models`, and no other name."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from eqlib.version import __version__

ROOT = Path(__file__).parents[1]
FOLDERS = {"eqlib": "eqlib", "kernels": "eqlib/kernels", "models": "eqlib/models"}
LINKS = ("eqlib/kernels", "eqlib/models")
PACKAGED = re.compile(r".*\.py|.*/kernels/.*\.[ch]|.*/py\.typed|.*/presets/[^/]*\.yaml")
PROBE = """
import importlib.util, json, pkgutil, sysconfig
import eqlib, eqlib.kernels, eqlib.models
names = {module.name for module in pkgutil.iter_modules([sysconfig.get_path("purelib")])}
print(json.dumps({
    "public": sorted(name for name in names if not name.startswith("_")),
    "strays": [name for name in ("kernels", "models") if importlib.util.find_spec(name)],
    "files": [eqlib.__file__, eqlib.kernels.__file__, eqlib.models.__file__],
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, tree: Path, out: Path) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", out, cwd=tree)
    return next(out.iterdir())


def unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.iterdir())


def without_links(tree: Path) -> Path:
    for link in LINKS:
        (tree / link).unlink(missing_ok=True)
    return tree


def copy_checkout(folder: Path) -> Path:
    folder.mkdir()
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the source trees that one may build from."""
    folder = tmp_path_factory.mktemp("sources")
    checkout = copy_checkout(folder / "checkout")
    sdist = build("--sdist", checkout, folder / "sdist")
    return {
        "checkout": checkout,
        "checkout without links": without_links(copy_checkout(folder / "unlinked")),
        "sdist": unpack(sdist, folder / "unpacked"),
        "sdist without links": without_links(unpack(sdist, folder / "unpacked and unlinked")),
    }


@pytest.fixture(scope="module")
def wheels(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: build("--wheel", tree, tmp_path_factory.mktemp("wheel"))
        for name, tree in sources.items()
    }


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return the interpreter of an empty environment that sees this one's dependencies."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv/bin/python"
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    )
    Path(purelib.strip(), "outer.pth").write_text(sysconfig.get_path("purelib"))
    return python


def install(python: Path, *target: str | Path, cwd: Path) -> None:
    """Install without any download, and although the outer environment has an eqlib."""
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--ignore-installed")
    run(*pip, "--no-index", "--no-deps", "--no-build-isolation", *target, cwd=cwd)


def probe(python: Path, cwd: Path) -> dict[str, list[str]]:
    assert "train" in run(python.parent / "eqlib", "--help", cwd=cwd)
    return json.loads(run(python, "-I", "-c", PROBE, cwd=cwd))


@pytest.mark.slow
def test_every_source_gives_the_same_whole_wheel(wheels):
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and PACKAGED.fullmatch(path.as_posix())
    }
    assert "eqlib/models/nbody/presets/quick.yaml" in expected
    assert "eqlib/kernels/gaunt_product/tiles.h" in expected
    info = f"eqlib-{__version__}.dist-info/"
    for name, wheel in wheels.items():
        files = {file for file in zipfile.ZipFile(wheel).namelist() if not file.startswith(info)}
        assert files == expected, name


@pytest.mark.slow
@pytest.mark.parametrize("source", ["checkout", "checkout without links", "sdist"])
def test_pip_install(source, sources, python, tmp_path):
    install(python, ".", cwd=sources[source])
    found = probe(python, tmp_path)
    assert found["public"] == ["eqlib"]
    assert found["strays"] == []
    assert all(Path(file).is_relative_to(tmp_path) for file in found["files"])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["checkout", "checkout without links"])
def test_editable_install(source, sources, python, tmp_path):
    install(python, "--editable", ".", cwd=sources[source])
    found = probe(python, tmp_path)
    assert found["public"] == []
    assert found["strays"] == []
    assert all(Path(file).is_relative_to(sources[source]) for file in found["files"])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["checkout", "sdist", "sdist without links"])
def test_wheel_install(source, wheels, python, tmp_path):
    install(python, wheels[source], cwd=tmp_path)
    found = probe(python, tmp_path)
    assert found["public"] == ["eqlib"]
    assert found["strays"] == []
    assert all(Path(file).is_relative_to(tmp_path) for file in found["files"])


def test_uninstalled_checkout_is_importable(tmp_path):
    checkout = copy_checkout(tmp_path / "checkout")
    code = "import eqlib.kernels, eqlib.models; print(eqlib.kernels.__file__)"
    file = run(sys.executable, "-c", code, cwd=checkout).strip()
    assert Path(file).is_relative_to(checkout)


@pytest.mark.parametrize("name", ["kernels", "models"])
def test_second_import_name_is_refused(name):
    with pytest.raises(ImportError, match=f"import it as 'eqlib.{name}'"):
        importlib.import_module(name)


def test_constraints_pin_every_requirement():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [
        Requirement(line)
        for name, lines in {"": project["dependencies"], **extras}.items()
        if name != "scatter"  # built from source: never part of `make install`
        for line in lines
    ]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    unmet = [
        str(requirement)
        for requirement in required
        if (name := canonicalize_name(requirement.name)) not in pins
        or not requirement.specifier.contains(pins[name])
    ]
    assert unmet == []


def test_citation_and_changelog_name_the_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
