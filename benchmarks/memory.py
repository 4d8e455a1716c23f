"""Peak memory and rate of filling the pixel store, at several numbers of images.

    python benchmarks/memory.py ../shared/data/kermany/compact_224 --counts 1000,20000

The images are copies of real ones with a comment of their own appended, so that each has content of its own. Every
count is measured in a process of its own: memory is the largest of the main process plus that of its workers.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from freezeframe.data.sources import read_manifest
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.recipe import DataSource
from freezeframe.stores.pixels import Pixels
manifest = read_manifest(DataSource(path=Path(sys.argv[1]), patient_pattern="none"))
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels = Pixels(Path(sys.argv[2]), Preprocessing.from_steps(None, (224, 224), (0.5,) * 3, (0.5,) * 3))
start = time.perf_counter()
assert pixels.fill(manifest) == []
seconds = time.perf_counter() - start
filled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
for key in manifest.keys():
    pixels.read(key)
print(json.dumps({
    "images": len(manifest), "seconds": seconds, "read": time.perf_counter() - start,
    "manifest": base, "filled": filled, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    "worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--counts", default="1000,20000")
    arguments = parser.parse_args()
    sources = sorted(arguments.data.glob("train/*/*"))
    print(
        "| images | filled/s | read back/s | MB after manifest | after filling | after reading | a worker |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for count in map(int, arguments.counts.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                source = sources[number % len(sources)]
                target = Path(folder) / "data" / source.parent.name / f"{number}.jpeg"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes() + number.to_bytes(4, "big"))
            output = subprocess.run(
                [sys.executable, "-c", MEASURE, f"{folder}/data", f"{folder}/store"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        found = json.loads(output.stdout)
        rate, back = found["images"] / found["seconds"], found["images"] / found["read"]
        memory = " | ".join(f"{found[name] / 1000:.0f}" for name in ("manifest", "filled", "peak", "worker"))
        print(f"| {found['images']:,} | {rate:.0f} | {back:.0f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
