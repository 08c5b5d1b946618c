"""What is installed and what works on this machine: the substance of `eqlib doctor`."""

import os
import pkgutil
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import NamedTuple

from eqlib.version import __version__

PACKAGES = {
    "torch": "",
    "triton": "GPU kernels need it: pip install eqlib[triton]",
    "e3nn": "",
    "torch-geometric": "",
    "torch-scatter": "optional: pip install eqlib[scatter], a long build from source",
    "matplotlib": "pictures need it: pip install eqlib[plot]",
    "tensorboard": "optional: pip install eqlib[tensorboard]",
}
"""Packages that eqlib uses, with what to say where one is missing."""
LEAST_FREE_GB = 1.0
DEGREES = 10
"""Kernels that choose by the degree of their operands are asked up to this one."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: str
    mend: str = ""
    """What to do about it; nothing where all is well."""


def installed_versions(*names: str) -> dict[str, str | None]:
    """Return the versions of installed distributions without importing them, None if missing."""
    known = {"eqlib": __version__, "python": platform.python_version()}
    return {name: known.get(name) or _installed_version(name) for name in names}


def examine(compilation: bool = True) -> Iterator[tuple[str, list[Finding]]]:
    """Yield the findings by section, each as soon as it is known.

    Args:
        compilation: whether to try torch.compile, which takes up to half a minute.
    """
    yield "versions", _versions()
    yield "devices", _devices()
    yield "storage", [_cache(_cache_folder())]
    if compilation:
        yield "torch.compile", [_compilation(device) for device in _device_names()]
    yield "operations", [_segment_reductions(), *_kernels()]


def page(title: str, findings: list[Finding]) -> str:
    """Return a section as text."""
    width = max(len(finding.name) for finding in findings)
    lines = [f"  {finding.name.ljust(width)}  {finding.state}".rstrip() for finding in findings]
    return "\n".join([title, *lines])


def _versions() -> list[Finding]:
    findings = [
        Finding("eqlib", f"{__version__} in {Path(__file__).parent}"),
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
    ]
    for name, found in installed_versions(*PACKAGES).items():
        absent = f"not installed ({PACKAGES[name]})" if PACKAGES[name] else "not installed"
        required = not found and not PACKAGES[name]
        mend = f"install what eqlib needs: pip install {name}" if required else ""
        findings.append(Finding(name, found or absent, mend))
    return findings


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device_names() -> list[str]:
    import torch

    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def _devices() -> list[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    findings = [Finding("cpu", threads)]
    for name in _device_names()[1:]:
        properties = torch.cuda.get_device_properties(name)
        memory = properties.total_memory / 2**30
        state = f"{properties.name}, sm_{properties.major}{properties.minor}, {memory:.0f} GiB"
        findings.append(_tried_matmul(name, state))
    if len(findings) == 1:
        built = torch.version.cuda
        reason = "no GPU is visible" if built else "this build of torch has no CUDA"
        findings.append(Finding("cuda", f"none: {reason}"))
    return findings


def _tried_matmul(device: str, state: str) -> Finding:
    import torch

    try:
        torch.ones(16, 16, device=device).matmul(torch.ones(16, 16, device=device)).sum().item()
    except RuntimeError as error:
        mend = "install a build of torch for this GPU and its driver"
        return Finding(device, f"{state}; a matrix product fails: {error}", mend)
    return Finding(device, state)


def _cache_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("eqlib")


def _cache(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        mend = f"make {existing} writable or choose another folder with --data-dir"
        return Finding("data cache", f"{folder} cannot be written", mend)
    free = shutil.disk_usage(existing).free / 1e9
    mend = f"make room on the disk of {existing}" if free < LEAST_FREE_GB else ""
    return Finding("data cache", f"{folder}, {free:.1f} GB free", mend)


def _compilation(device: str) -> Finding:
    import torch

    start = time.perf_counter()
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # whatever the compilers raise
        reason = str(error).strip().splitlines()[0]
        mend = "install a C++ compiler and, for a GPU, triton; or train with --training.compile no"
        return Finding(device, f"fails: {reason}", mend)
    return Finding(device, f"works ({time.perf_counter() - start:.1f} s)")


def _segment_reductions() -> Finding:
    """Tell which backend sums segments in eager mode, by summing one."""
    import torch

    from eqlib.geometry import segment_sum

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        segment_sum(torch.ones(1), torch.zeros(1, dtype=torch.int64), 1)
    if caught:
        return Finding("segment reductions", "torch", str(caught[0].message))
    if "torch_scatter" in sys.modules:
        return Finding("segment reductions", "torch-scatter in eager mode, torch when compiled")
    return Finding("segment reductions", "torch: torch-scatter is not installed")


def _kernels() -> list[Finding]:
    """Tell which implementation of each kernel "auto" picks on each device, and why.

    Kernels that have no choice are left out.
    """
    import eqlib.kernels

    findings = []
    for module in pkgutil.iter_modules(eqlib.kernels.__path__):
        if not module.ispkg:
            continue
        pick = getattr(import_module(f"eqlib.kernels.{module.name}"), "pick", None)
        if pick is not None:
            states = [f"{device}: {_choices(pick, device)}" for device in _device_names()]
            findings.append(Finding(module.name, "; ".join(states)))
    return findings or [Finding("kernels", "none in this version")]


def _choices(pick: Callable[..., tuple[str, str]], device: str) -> str:
    """Tell what is picked for float32, by degree where that matters."""
    import torch

    wanted = signature(pick).parameters
    given = {"dtype": torch.float32, "odd": False}
    given = {name: value for name, value in given.items() if name in wanted}
    if "lmaxes" not in wanted:
        return ", ".join(pick(torch.device(device), **given))
    last_degree: dict[tuple[str, str], int] = {}
    for degree in range(DEGREES + 1):
        choice = pick(torch.device(device), lmaxes=(degree,) * 3, **given)
        last_degree[choice] = degree
    parts = [f"{name} up to L={last}, {reason}" for (name, reason), last in last_degree.items()]
    return "; ".join(parts)
