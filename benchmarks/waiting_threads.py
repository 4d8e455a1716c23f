"""How torch's threads wait for each other decides how fast a suffix trains on a machine with other work.

    python benchmarks/waiting_threads.py

Milliseconds a training step of EfficientNet-Lite0's last block (batch 16), with threads that spin while they wait (the
default) and threads that sleep (OMP_WAIT_POLICY=PASSIVE, which freezeframe sets), on the machine as it is and beside
one busy process. The runs take turns.
"""

import os
import statistics
import subprocess
import sys

ROUNDS = 3
STEP = """
import time, torch
from freezeframe.backbones import cut, unfreeze, zoo
from freezeframe.training.module import run_suffix
network = zoo.build("efficientnet-lite0", 2)
unfrozen = unfreeze.resolve({"blocks": 1}, network)
unfreeze.apply(network.module, unfrozen)
divided = cut.cut(network, unfrozen)
network.module.train()
unfreeze.set_training_mode(network.module, unfrozen)
divided.suffix.to(memory_format=torch.channels_last)
inputs, targets = torch.randn(16, divided.size), torch.randint(0, 2, (16,))
optimiser = torch.optim.AdamW([p for p in network.module.parameters() if p.requires_grad], fused=True)
seconds = []
for _ in range(20):
    start = time.perf_counter()
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(run_suffix(divided, inputs), targets).backward()
    optimiser.step()
    seconds.append(time.perf_counter() - start)
print(1000 * sorted(seconds[2:])[len(seconds[2:]) // 2])
"""


def measure(policy: str) -> float:
    """Return the median milliseconds a step in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    # torch first, so that freezeframe's own setting comes too late
    code = STEP if policy == "sleep" else "import torch" + STEP
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return float(output.stdout)


def main() -> None:
    print(
        "| machine | threads that wait | ms a step, median | least | most |\n| --- | --- | --- | --- | --- |"
    )
    for busy in (False, True):
        load = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        try:
            found = {policy: [] for policy in ("spin", "sleep")}
            for _ in range(ROUNDS):
                for policy, values in found.items():
                    values.append(measure(policy))
        finally:
            if load is not None:
                load.kill()
        for policy, values in found.items():
            figures = " | ".join(
                f"{value:.0f}" for value in (statistics.median(values), min(values), max(values))
            )
            print(f"| {'one busy process' if busy else 'as it is'} | {policy} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
