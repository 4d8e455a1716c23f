"""What a study costs as it grows: 1, 10, 100, 1,000 trainings so small that only the overhead counts.

    python benchmarks/study_growth.py ../shared/data/kermany/compact_224
    python benchmarks/study_growth.py ../shared/data/kermany/compact_224 --counts 1,10 --workers 1

Each training has 60 images of 64 pixels, the head alone, one epoch; they differ by seed and learning rate. Each study
begins with an empty store and new processes. Seconds are those of the whole command, the start of Python included;
`each` is what one more training costs: the difference to the row before, by the trainings in between. Memory is the
resident set at its greatest, looked at ten times a second; pages that processes share are counted in each.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from subprocess import DEVNULL, Popen

import psutil

from freezeframe import files
from freezeframe.study.spec import Study

IMAGES, SIZE, RATES = 60, 64, 10
LOOKS_A_SECOND = 10


class Memory:
    """Watches a process and its children.

    Parameters
    ----------
    process : int
        Its number.
    """

    def __init__(self, process: int) -> None:
        self.parent, self.worker = 0, 0
        self._process, self._ended = psutil.Process(process), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(1 / LOOKS_A_SECOND):
            try:
                self.parent = max(self.parent, self._process.memory_info().rss)
                for child in self._process.children(recursive=True):
                    self.worker = max(self.worker, child.memory_info().rss)
            except psutil.NoSuchProcess:
                continue

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join()


def few_images(source: Path, target: Path) -> Path:
    """Copy 60 images, half of each class."""
    for label in ("NORMAL", "PNEUMONIA"):
        (target / label).mkdir(parents=True)
        paths = sorted((source / "train" / label).iterdir())
        for path in paths[:: len(paths) // (IMAGES // 2)][: IMAGES // 2]:
            shutil.copy(path, target / label)
    return target


def study_of(count: int, data: Path, store: Path) -> Study:
    """Make a study of so many trainings, which differ by seed and learning rate."""
    rates = [round(1e-3 * 1.2**step, 8) for step in range(min(RATES, count))]
    study = {
        "name": f"growth-{count}",
        "recipe": {
            "data": str(data), "backbone": "efficientnet-lite0", "unfreeze": "head", "epochs": 1,
            "preprocess": [{"resize": {"size": SIZE}}], "store": str(store), "device": "cpu",
        },
        "axes": {"learning_rate": rates},
        "seeds": -(-count // len(rates)),
        "baseline": False,
    }  # fmt: skip
    return Study.parse(study)


def measure(count: int, folder: Path, data: Path, workers: int | None) -> dict[str, float]:
    """Run one study as a command; returns seconds, bytes and the trainings that were done."""
    study = study_of(count, data, folder / f"store-{count}")
    path, out = folder / f"study-{count}.yaml", folder / f"study-{count}"
    study.write(path)
    command = [sys.executable, "-m", "freezeframe", "study", "run", str(path), "--out", str(out)]
    command += ["--workers", str(workers)] if workers else []
    begun = time.perf_counter()
    process = Popen(command, stdout=DEVNULL, stderr=DEVNULL)
    memory = Memory(process.pid)
    code = process.wait()
    seconds = time.perf_counter() - begun
    memory.end()
    done = len(list(out.glob("runs/*/predictions/validation.parquet")))
    if code or done != len(study.cells()):
        raise SystemExit(f"The study of {count} ended with code {code} and {done} trainings; see {out}/logs.")
    own = [files.read_json(run)["seconds"]["total"] for run in out.glob("runs/*/run.json")]
    size = sum(entry.stat().st_size for entry in out.rglob("*") if entry.is_file())
    return {
        "trainings": done, "seconds": seconds, "inside": sum(own) / done, "parent": memory.parent,
        "worker": memory.worker, "bytes": size,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--counts", default="1,10,100,1000")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--keep", type=Path, help="leave the studies in this folder")
    arguments = parser.parse_args()
    print(
        "| trainings | seconds | each, s | inside a training, s | parent, MB | worker, MB | folder a training, kB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        data = few_images(arguments.data, folder / "data")
        before = {"trainings": 0, "seconds": 0.0}
        for count in map(int, arguments.counts.split(",")):
            row = measure(count, folder, data, arguments.workers)
            each = (row["seconds"] - before["seconds"]) / (row["trainings"] - before["trainings"])
            cells = [
                f"{row['trainings']:,}", f"{row['seconds']:.1f}", f"{each:.2f}", f"{row['inside']:.2f}",
                f"{row['parent'] / 1e6:.0f}", f"{row['worker'] / 1e6:.0f}",
                f"{row['bytes'] / row['trainings'] / 1e3:.0f}",
            ]  # fmt: skip
            print("| " + " | ".join(cells) + " |", flush=True)
            before = row


if __name__ == "__main__":
    main()
