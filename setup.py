"""Map the three source folders onto one package; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

packages = {
    *find_packages(include=["eqlib", "eqlib.*"]),
    *("eqlib." + name for name in find_packages(include=["kernels", "kernels.*"])),
    *("eqlib." + name for name in find_packages(include=["models", "models.*"])),
}

setup(
    packages=sorted(packages),
    package_dir={"eqlib": "eqlib", "eqlib.kernels": "kernels", "eqlib.models": "models"},
)
