"""How fast a suffix trains on a CPU, with torch's own gradients and with freezeframe's faster equivalents.

    python benchmarks/suffix.py                              # one thread, about 2 minutes on two cores
    python benchmarks/suffix.py --threads 2
    python benchmarks/suffix.py --processes                  # one process with two threads, two with one each

Milliseconds a training step (batch 16, float32, random weights, the network's own image size): forward, loss,
backward and AdamW, without Lightning. Plain and faster steps take turns, so that both see the same machine; with one
thread it is the processor's time, which other work on the machine disturbs less. GFLOP/s counts what the step must
multiply and add: the forward pass, the gradient of each weight that trains and of each tensor on the way.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time

import torch

from freezeframe.backbones import unfreeze, zoo
from freezeframe.backbones.cut import cut
from freezeframe.training.cpu_kernels import faster_gradients
from freezeframe.training.module import run_suffix

BATCH = 16
CASES: list[tuple[str, dict[str, int]]] = [
    *(("efficientnet-lite0", {"layers": count}) for count in (2, 4, 6, 8, 10)),
    ("mobilenet", {"blocks": 1}),
    ("mobilenet-v3", {"blocks": 1}),
    ("resnet18", {"blocks": 1}),
]


class Suffix:
    """A suffix that can be trained step by step."""

    def __init__(self, name: str, spec: dict[str, int]) -> None:
        network = zoo.build(name, 2, "none", announce=False)
        unfrozen = unfreeze.resolve(spec, network)
        self.cut = cut(network, unfrozen)
        unfreeze.apply(network.module, unfrozen)
        network.module.train()
        unfreeze.set_training_mode(network.module, unfrozen)
        self.cut.suffix.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.activations = torch.randn(BATCH, self.cut.size)
        self.targets = torch.randint(0, 2, (BATCH,))
        trainable = [parameter for parameter in network.module.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(trainable, lr=1e-4, fused=True)

    def step(self, faster: bool) -> float:
        """Train one step; returns its seconds, of the processor where one thread works."""
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        self.optimiser.zero_grad()
        with faster_gradients(self.activations) if faster else contextlib.nullcontext():
            logits = run_suffix(self.cut, self.activations)
        torch.nn.functional.cross_entropy(logits, self.targets).backward()
        self.optimiser.step()
        return clock() - start

    def operations(self) -> int:
        """Count the floating-point operations of a step's convolutions and linear layers."""
        found = 0

        def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            nonlocal found
            weight = layer.get_parameter("weight")
            products = 1 + weight.requires_grad + inputs[0].requires_grad
            found += 2 * products * output.numel() * weight[0].numel()

        # torch's own counter takes the gradient of a depthwise kernel for that of a dense one.
        hooks = [
            layer.register_forward_hook(count)
            for layer in self.cut.suffix.modules()
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
        ]
        self.step(faster=False)
        for hook in hooks:
            hook.remove()
        return found


def alternate(steps: int) -> None:
    """Print the table of steps that take turns."""
    threads = torch.get_num_threads()
    side = torch.randn(2048, 2048)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(side, side)
        seconds.append(time.perf_counter() - start)
    print(
        f"{threads} threads; a product of 2048 x 2048 matrices: {2 * 2048**3 / min(seconds) / 1e9:.0f} GFLOP/s\n"
    )
    print(
        "| network | unfreeze | plain: ms, median (least) | faster: ms, median (least) | ratio "
        "| GFLOP/s at the least: plain, faster |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, spec in CASES:
        suffix = Suffix(name, spec)
        operations = suffix.operations()
        taken: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(steps + 2):
            for faster, values in taken.items():
                values.append(suffix.step(faster))
        plain, quick = (
            (statistics.median(values[2:]), min(values[2:])) for values in (taken[False], taken[True])
        )
        form = "".join(f"{key}: {value}" for key, value in spec.items())
        print(
            f"| {name} | {form} | {1000 * plain[0]:.1f} ({1000 * plain[1]:.1f}) | "
            f"{1000 * quick[0]:.1f} ({1000 * quick[1]:.1f}) | {plain[0] / quick[0]:.2f} ({plain[1] / quick[1]:.2f}) | "
            f"{operations / plain[1] / 1e9:.0f}, {operations / quick[1] / 1e9:.0f} |",
            flush=True,
        )


def work(case: int, seconds: float, faster: bool) -> None:
    """Train for some time, from when the caller says so; print the images a second."""
    suffix = Suffix(*CASES[case])
    for _ in range(3):
        suffix.step(faster)
    print("ready", flush=True)
    sys.stdin.readline()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        suffix.step(faster)
        steps += 1
    print(BATCH * steps / (time.perf_counter() - start), flush=True)


def processes(rounds: int, seconds: float) -> None:
    """Print the table of images a second in total, for both ways to use two cores."""
    print(
        "| network | unfreeze | gradients | one process, 2 threads: images/s | two processes, 1 thread each | ratio |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for case in (0, 2, 4, 7):
        for faster in (False, True):
            found: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(rounds):
                for count, totals in found.items():
                    totals.append(_together(count, case, seconds, faster))
            one, two = (statistics.median(found[count]) for count in (1, 2))
            name, spec = CASES[case]
            form = "".join(f"{key}: {value}" for key, value in spec.items())
            print(
                f"| {name} | {form} | {'faster' if faster else 'plain'} | {one:.0f} | {two:.0f} | {two / one:.2f} |",
                flush=True,
            )


def _together(count: int, case: int, seconds: float, faster: bool) -> float:
    command = [sys.executable, __file__, "--threads", str(2 // count), "--work", str(case)]
    command += ["--seconds", str(seconds), *(["--faster"] if faster else [])]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    return sum(float(worker.communicate()[0]) for worker in workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=15, help="of each kind and case")
    parser.add_argument("--processes", action="store_true", help="compare processes instead of steps")
    parser.add_argument("--rounds", type=int, default=2, help="of each comparison of processes")
    parser.add_argument("--seconds", type=float, default=4.0, help="that a process is measured")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--faster", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.work is not None:
        work(options.work, options.seconds, options.faster)
    elif options.processes:
        processes(options.rounds, options.seconds)
    else:
        alternate(options.steps)


if __name__ == "__main__":
    main()
