"""Say what eqlib, its tests and its benchmarks need here and do not find."""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("plot", "triton")
TESTS = {"beartype", "hypothesis", "networkx", "pytest", "scipy"}
"""Those of the extra `dev` without which tests do not run."""
PEERS = ("cuequivariance", "cuequivariance-torch", "cuequivariance-ops-torch-cu13")


def main() -> int:
    """Print versions, and a command that fetches what is missing; return 1 if something is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    lines += [line for line in extras["dev"] if Requirement(line).name in TESTS]
    missing = []
    for requirement in map(Requirement, lines):
        found = _version(requirement.name)
        print(f"{requirement.name:18} {found or 'MISSING'}")
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            missing.append(str(requirement).partition(";")[0])
    for name in PEERS:
        print(f"{name:18} {_version(name) or 'not installed: an optional peer'}")
    if missing:
        print(f"\nOn a machine with a network:\n  {_download(missing)}\n")
        print("then here: bash benchmarks/gpu.sh --wheels wheels packages")
    return 1 if missing else 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _download(requirements: Iterable[str]) -> str:
    """Return the command that fetches wheels for this interpreter."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    quoted = " ".join(f"'{requirement}'" for requirement in requirements)
    return (
        f"python3 -m pip download --no-deps --only-binary=:all: --python-version {python} "
        f"--dest wheels --constraint constraints.txt {quoted}"
    )


if __name__ == "__main__":
    sys.exit(main())
