"""Compile the Triton kernels ahead of time, with no GPU, and report what each needs of a chip.

``python -m eqlib.kernels.aot`` prints one line per kernel configuration and chip and exits with 1
if one spills registers, has more shared memory than the chip gives a block, or more registers than
a block may have. A kernel folder joins with a module that has ``aot_cases(capability, full)``.

Source:
    Shared memory per block by compute capability: NVIDIA, CUDA C++ Programming Guide, table of
    technical specifications. Registers per block: 65536, same table.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MODULES = (
    "eqlib.kernels.gaunt_product.triton_cases",
    "eqlib.kernels.symmetric_eigh.triton_cases",
    "eqlib.kernels.position_orientation_conv.triton_cases",
    "eqlib.kernels.pair_linear.triton_cases",
)

SHARED_LIMIT = {80: 166912, 86: 101376, 89: 101376, 90: 232448, 100: 232448, 120: 101376}
"""Bytes of shared memory that one block may have, by compute capability."""

_REGISTERS = 65536
_COLUMNS = "{:<11} {:<7} {:>3} {:>5} {:>7} {:>7} {:>7} {:>4} {:<14} {:>5}  {}"
_MATRIX_INSTRUCTIONS = r"\b(UTC\w*MMA|HGMMA|HMMA|DMMA)\b"


@dataclass(frozen=True)
class AotCase:
    """One configuration of one kernel on one chip."""

    kernel: Any
    """The function that ``triton.jit`` made."""
    types: dict[str, str]
    """Triton's types of the arguments, such as ``*fp32`` and ``i32``."""
    constants: dict[str, Any]
    """Values of the compile-time arguments, None for pointers that are absent."""
    options: dict[str, int]
    capability: int
    label: str

    @property
    def name(self) -> str:
        """Name of the kernel."""
        return str(self.kernel.__name__).strip("_")


@dataclass(frozen=True)
class AotReport:
    """What a compiled kernel needs, and what it uses."""

    case: AotCase
    registers: int
    stack: int
    spills: int
    shared: int
    stores: int
    """Instructions that write to device memory: a kernel without one was compiled to nothing."""
    matrix_instructions: str
    narrow_pointers: int
    """Addresses computed with offsets of 32 bits: right only within a tile."""
    seconds: float

    @property
    def problems(self) -> list[str]:
        """Why this configuration may not be used on its chip, if it may not."""
        limit = SHARED_LIMIT[self.case.capability]
        threads = 32 * self.case.options["num_warps"]
        found = []
        if not self.stores:
            found.append("no code")
        if self.spills or self.stack:
            found.append("spills")
        if self.shared > limit:
            found.append(f"shared memory above {limit}")
        # The hardware hands out registers to a warp in units of 8 per thread.
        if -(-self.registers // 8) * 8 * threads > _REGISTERS:
            found.append(f"more than {_REGISTERS} registers")
        return found

    def __str__(self) -> str:
        """Return the line of the table."""
        case = self.case
        return _COLUMNS.format(
            f"sm_{case.capability}",
            case.options["num_warps"],
            self.registers,
            self.spills,
            self.stack,
            self.shared,
            SHARED_LIMIT[case.capability],
            self.narrow_pointers,
            self.matrix_instructions or "-",
            f"{self.seconds:.1f}",
            f"{case.name} {case.label}" + "".join(f"  <- {text}" for text in self.problems),
        )


def cases(
    kernel: str = "", capabilities: Iterable[int] = tuple(SHARED_LIMIT), full: bool = True
) -> Iterator[AotCase]:
    """Yield the configurations whose name and label hold a text.

    Args:
        kernel: text to look for.
        capabilities: chips.
        full: all configurations, or a few that stand for them.
    """
    for capability in capabilities:
        for module in MODULES:
            for case in import_module(module).aot_cases(capability, full):
                if kernel in f"{case.name} {case.label}":
                    yield case


def report(case: AotCase) -> AotReport:
    """Compile one configuration, or take it from Triton's cache, and read what it needs.

    Raises:
        RuntimeError: kernels are interpreted here, or a tool of Triton's failed.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if not isinstance(case.kernel, triton.JITFunction):
        raise RuntimeError("TRITON_INTERPRET is set: interpreted kernels cannot be compiled")
    start = time.perf_counter()
    names = case.kernel.arg_names
    aligned = [i for i, name in enumerate(names) if case.types.get(name, "").startswith("*")]
    source = ASTSource(
        fn=case.kernel,
        signature={name: case.types.get(name, "constexpr") for name in names},
        constexprs=case.constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    target = GPUTarget("cuda", case.capability, 32)
    compiled = triton.compile(source, target=target, options=case.options)
    usage, code = _inspect(compiled.asm["cubin"])
    instructions = sorted(set(re.findall(_MATRIX_INSTRUCTIONS, code)))
    return AotReport(
        case=case,
        registers=_number(r"REG:(\d+)", usage),
        stack=_number(r"STACK:(\d+)", usage),
        spills=len(re.findall(r"\b(?:STL|LDL)\b", code)),
        shared=compiled.metadata.shared,
        stores=len(re.findall(r"\bSTG\b", code)),
        matrix_instructions="+".join(instructions),
        narrow_pointers=len(re.findall(r"tt\.addptr[^\n]*(?:xi32>|, i32\b)", compiled.asm["ttir"])),
        seconds=time.perf_counter() - start,
    )


def _inspect(cubin: bytes) -> tuple[str, str]:
    """Return resource usage and instructions of a compiled kernel."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        return (
            _run(str(tools / "cuobjdump"), "-res-usage", str(file)),
            _run(str(tools / "nvdisasm"), "-c", str(file)),
        )


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"cuobjdump's output has no {pattern}: {text}")
    return int(found[1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m eqlib.kernels.aot", description=__doc__)
    parser.add_argument("--kernel", default="", help="only names and labels that hold this text")
    parser.add_argument(
        "--capability",
        type=int,
        nargs="+",
        choices=sorted(SHARED_LIMIT),
        default=sorted(SHARED_LIMIT),
        help="chips, such as 90 for sm_90",
    )
    parser.add_argument("--quick", action="store_true", help="a few that stand for all")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a configuration may not be used."""
    options = _parser().parse_args(arguments)
    # Triton 3.9 warns where it is left open whether multiplications and additions may be fused.
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    import triton

    print(f"Triton {triton.__version__}")
    print(
        _COLUMNS.format(
            "chip", "warps", "reg", "spill", "stack", "shared", "limit", "i32", "matrix", "s", ""
        )
    )
    start, reports = time.perf_counter(), []
    for case in cases(options.kernel, options.capability, not options.quick):
        reports.append(report(case))
        print(reports[-1], flush=True)
    bad = sum(bool(entry.problems) for entry in reports)
    seconds = time.perf_counter() - start
    print(f"{len(reports)} configurations in {seconds:.0f} s, {bad} that may not be used")
    return 1 if bad or not reports else 0


if __name__ == "__main__":
    sys.exit(main())
