"""C sources of CPU kernels, built once per machine with its own compiler."""

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

_TUNING = (
    ("-march=native", "-mprefer-vector-width=512"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)
"""Flags for this processor, the best first: a compiler refuses those it does not know."""
_COMMON = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-std=gnu11")


_WORK_FOR_THREADS = 1_000_000
"""Multiplications and additions below which a second thread costs more than it saves."""


class NativeError(RuntimeError):
    """A C source could not be built on this machine."""


@cache
def load_library(source: Path, *definitions: str) -> ctypes.CDLL:
    """Return a C source as a library, from the user's cache where it was built before.

    Loops over threads use the OpenMP runtime that torch itself has loaded, so that both share one
    pool of threads; where torch has none the library runs on one thread.

    Args:
        source: the C file.
        definitions: macros, such as ``"REAL=float"``.

    Raises:
        NativeError: there is no C compiler, or it fails.
    """
    command = (*_compiler(), *(f"-D{name}" for name in definitions))
    if hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        command += ("-fopenmp",)
    folders = source.parent, source.parent.parent
    found = [header for folder in folders for header in sorted(folder.glob("*.h"))]
    headers = b"".join(header.read_bytes() for header in found)
    parts = (source.read_bytes(), headers, " ".join(command).encode(), _processor())
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
    target = platformdirs.user_cache_path("eqlib") / "native" / f"{source.stem}-{key}.so"
    if target.exists():
        # What does not load was cut short by a full disk, or is of another kind of machine.
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(target))
    _build(source, target, command)
    return ctypes.CDLL(str(target))


@cache
def whynot(source: Path, *definitions: str) -> str:
    """Return why a C source cannot be used here, or nothing.

    Args:
        source: the C file.
        definitions: macros, such as ``"REAL=float"``.
    """
    try:
        load_library(source, *definitions)
    except (NativeError, OSError) as error:
        return str(error)
    return ""


def pointer(tensor: Tensor | None) -> int | None:
    """Return where a tensor begins, or None.

    Args:
        tensor: a tensor, which has to outlive the pointer.
    """
    return None if tensor is None else tensor.data_ptr()


def count_threads(work: int) -> int:
    """Return how many threads are worth it.

    Args:
        work: number of multiplications and additions.
    """
    return torch.get_num_threads() if work > _WORK_FOR_THREADS else 1


def _compiler() -> tuple[str, ...]:
    """Return the command of the C compiler: that of the user, of Python, or the usual ones."""
    wanted = [os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"]
    for command in wanted:
        words = tuple(shlex.split(command)) if command else ()
        if words and shutil.which(words[0]):
            return words
    raise NativeError("no C compiler was found: install gcc or clang, or name one in CC")


def _processor() -> bytes:
    """Return what tells this processor from others that may share the user's cache."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        kept = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
        return "\n".join(sorted(kept)).encode()
    return f"{platform.machine()} {platform.processor()}".encode()


def _build(source: Path, target: Path, command: tuple[str, ...]) -> None:
    """Compile in a temporary folder, then move the library into place at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        compiled, linked = Path(folder, "kernel.o"), Path(folder, "kernel.so")
        for tuning in _TUNING:
            done = _run(*command, *_COMMON, *tuning, "-c", str(source), "-o", str(compiled))
            if done.returncode == 0:
                break
        else:
            raise NativeError(f"{command[0]} cannot compile {source.name}:\n{done.stderr.strip()}")
        # Linked without -fopenmp: its symbols are found in the runtime that torch has loaded.
        done = _run(command[0], "-shared", str(compiled), "-o", str(linked))
        if done.returncode:
            raise NativeError(f"{command[0]} cannot link {source.name}:\n{done.stderr.strip()}")
        linked.replace(target)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
