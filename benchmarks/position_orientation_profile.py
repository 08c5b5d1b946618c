"""Where the time of a training step of the position-orientation networks goes, by operation.

`python -m benchmarks.position_orientation_profile` prints what is kept in
`results/position_orientation_step-profile.txt`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.memory import bytes_of, peak_bytes
from benchmarks.position_orientation import BENCHMARKS, NBODY
from benchmarks.registry import Inputs
from benchmarks.results import describe_environment

NAMES = ("materialising", "eqlib")
STEPS = 4
ROWS = 12


def main() -> None:
    """Print a profile of each network on a batch of the N-body task."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    environment = describe_environment(device)
    step = BENCHMARKS[0]
    inputs = step.problem(NBODY).make(torch.Generator().manual_seed(0))
    inputs = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }
    print(f"{step.name}: {NBODY}, {environment['machine']}, {environment['threads']} threads")
    for name in NAMES:
        torch.manual_seed(0)
        kind = step.implementations[name]
        assert isinstance(kind, type)
        print(f"\n{name}\n{profile(kind().to(device), inputs, device)}")


def profile(network: nn.Module, inputs: Inputs, device: torch.device) -> str:
    """The operations that take longest in a training step, with their part of its time.

    Args:
        network: to train.
        inputs: of the network.
        device: where both are.
    """
    run = _step(network, inputs)
    for _ in range(2):
        run()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as found:
        for _ in range(STEPS):
            run()
    gpu = device.type == "cuda"
    rows = [
        (
            (event.self_device_time_total if gpu else event.self_cpu_time_total) / STEPS,
            event.count // STEPS,
            event.key,
        )
        for event in found.key_averages()
    ]
    total = sum(time for time, _, _ in rows)
    rows = sorted((row for row in rows if row[0]), reverse=True)[:ROWS]
    peak = peak_bytes(run, device) / 2**20
    held = bytes_of(network.parameters()) / 2**20
    lines = [f"  {time / total:6.1%} {count:5} x  {name}" for time, count, name in rows]
    head = f"  peak {peak:.0f} MiB beside {held:.1f} MiB of weights; part of the time, calls a step"
    return "\n".join([head, *lines])


def _step(network: nn.Module, inputs: Inputs) -> Callable[[], None]:
    leaves = list(network.parameters())

    def run() -> None:
        loss = network(**inputs).square().mean()
        torch.autograd.grad(loss, leaves, allow_unused=True)

    return run


if __name__ == "__main__":
    main()
