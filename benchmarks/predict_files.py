"""Measure `freezeframe predict` on many files: images a second, memory over time, a kill and its resumption, Ray.

Run ``python benchmarks/predict_files.py BUNDLE ../shared/data/kermany/compact_224 --files 100000``. The files are hard
links to the images of the folder (copies where it is on another disk), in sub-folders of 1,000. Every command is a
process of its own, as a user would start it.
"""

import argparse
import importlib.metadata
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
from packaging.requirements import Requirement

IN_A_FOLDER = 1000
SECONDS_BETWEEN_LOOKS = 0.2
ONE_IMAGE_REPEATS = 5


@dataclass
class Watched:
    """One run of the command.

    `samples` holds the seconds since its start, the number of parts, and the resident bytes of the main process and
    of its workers.
    """

    seconds: float = 0.0
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)
    said: str = ""

    def rate(self, images_of_a_part: int) -> float:
        """Return images a second between the first new part and the last one; NaN where there is one only."""
        already, most = self.samples[0][1], max(parts for _, parts, *_ in self.samples)
        first = next((entry for entry in self.samples if entry[1] > already), self.samples[-1])
        last = next(entry for entry in self.samples if entry[1] == most)
        seconds = last[0] - first[0]
        return images_of_a_part * (last[1] - first[1]) / seconds if seconds > 0 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, help="folder of real images")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--ray-files", type=int, default=8192, help="0 leaves Ray out")
    parser.add_argument(
        "--work", type=Path, help="folder for links and results; a temporary one where left out"
    )
    parser.add_argument("--engine", default="onnxruntime")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        work = Path(name)
        one_image(arguments, work)
        install_sizes()
        many_files(arguments, work)
        if arguments.ray_files:
            on_ray(arguments, work)


def link_images(images: Path, folder: Path, number: int) -> None:
    """Fill sub-folders with links to real images, in turn."""
    sources = sorted(
        path for path in images.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png", ".dcm")
    )
    for count in range(number):
        source = sources[count % len(sources)]
        path = folder / f"{count // IN_A_FOLDER:05d}" / f"{count:07d}{source.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(source)
        except OSError:
            shutil.copy(source, path)


def predict(*words: object) -> list[str]:
    return [sys.executable, "-m", "freezeframe", "predict", *map(str, words)]


def resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def watch(command: list[str], parts: Path, kill_when: Callable[[int], bool] = lambda _: False) -> Watched:
    """Run a command, look at it now and then, and kill it when so many parts are there."""
    watched = Watched()
    with tempfile.TemporaryFile("w+") as said:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        own = psutil.Process(process.pid)
        while process.poll() is None:
            done = len(list(parts.glob("0*.parquet"))) if parts.is_dir() else 0
            below = sum(map(resident, own.children(recursive=True))) if process.poll() is None else 0
            watched.samples.append((time.perf_counter() - begun, done, resident(own), below))
            if kill_when(done):
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        watched.seconds = time.perf_counter() - begun
        said.seek(0)
        watched.said = said.read()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"{' '.join(command)} failed:\n{watched.said}")
    return watched


def many_files(arguments: argparse.Namespace, work: Path) -> None:
    from freezeframe.bundle.runtime.job import SHARD

    folder, out = work / "files", work / "answers.parquet"
    begun = time.perf_counter()
    link_images(arguments.images, folder, arguments.files)
    print(
        f"## {arguments.files:,} files, engine {arguments.engine} (made in {time.perf_counter() - begun:.0f} s)\n"
    )
    command = predict(arguments.bundle, folder, "--out", out, "--engine", arguments.engine)
    parts = out.with_name(f"{out.name}.parts")
    half = arguments.files // SHARD // 2
    runs = [watch(command, parts, lambda done: done >= half), watch(command, parts)]
    print(
        "| run | parts at its end | seconds | images/s | main process, MB (10 to 90 % of its time) | workers, MB |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, run in zip(("killed (SIGKILL)", "resumed"), runs, strict=True):
        places = [run.samples[len(run.samples) * tenth // 10] for tenth in (1, 3, 5, 7, 9)]
        print(
            f"| {name} | {run.samples[-1][1]} | {run.seconds:.0f} | {run.rate(SHARD):.1f} | "
            f"{', '.join(f'{place[2] / 1e6:.0f}' for place in places)} | {places[2][3] / 1e6:.0f} |"
        )
    table = pd.read_parquet(out)
    every = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    whole = table["image"].tolist() == every
    said = find(r"[^\n]*done already", runs[1].said)
    print(
        f"\nAfter the kill: {len(table):,} rows for {len(every):,} files, each once and in order: {whole}; "
        f"{table['error'].count():,} could not be read. It said: {said}\n"
    )


def find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[0] if match else "(nothing)"


def one_image(arguments: argparse.Namespace, work: Path) -> None:
    link_images(arguments.images, work / "one", 1)
    seconds, memory = [], []
    for _ in range(ONE_IMAGE_REPEATS):
        begun = time.perf_counter()
        process = subprocess.Popen(
            predict(arguments.bundle, work / "one", "--out", work / "one.csv", "--engine", arguments.engine),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit("one image failed")
        seconds.append(time.perf_counter() - begun)
        memory.append(usage.ru_maxrss / 1e3)
    print("## One image: the whole process\n")
    print("| | median | least | most |\n| --- | --- | --- | --- |")
    for what, values in (("seconds", seconds), ("peak memory, MB", memory)):
        print(f"| {what} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    print()


def install_sizes() -> None:
    """Add up what this environment's packages occupy, by their own records."""
    print("## Installed (from the packages' RECORD files)\n")
    print("| extra | packages | MB | largest |\n| --- | --- | --- | --- |")
    for extra in ("node", "train"):
        sizes = {name: size_of(name) for name in closure(f"freezeframe[{extra}]")}
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        named = ", ".join(f"{name} {sizes[name] / 1e6:.0f}" for name in largest)
        print(f"| {extra} | {len(sizes)} | {sum(sizes.values()) / 1e6:.0f} | {named} |")
    print(f"\ntorch here is {importlib.metadata.version('torch')}.\n")


def closure(requirement: str) -> set[str]:
    """Return the names of all installed packages that a requirement asks for, directly or not."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            if (wanted.name.lower(), extra) in seen:
                continue
            seen.add((wanted.name.lower(), extra))
            try:
                lines = importlib.metadata.requires(wanted.name) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # for other systems or Pythons
            found.add(re.sub(r"[-_.]+", "-", wanted.name).lower())
            needs = (Requirement(line) for line in lines)
            waiting += [
                need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})
            ]
    return found


def size_of(name: str) -> int:
    paths = (Path(str(entry.locate())) for entry in importlib.metadata.files(name) or [])
    return sum(path.stat().st_size for path in paths if path.is_file())


def on_ray(arguments: argparse.Namespace, work: Path) -> None:
    from freezeframe.bundle.runtime.job import SHARD

    folder = work / "ray"
    link_images(arguments.images, folder, arguments.ray_files)
    print(
        f"## {arguments.ray_files:,} files: Ray on this machine; a worker is one thread and one decoding process\n"
    )
    print(
        "| | seconds with start and end | images/s between the first part and the last |\n| --- | --- | --- |"
    )
    for name, words in (
        ("no Ray, 1 worker, 1 thread", ("--workers", 1, "--threads", 1)),
        ("no Ray, all cores", ()),
        ("Ray, 1 worker", ("--cluster", "local", "--workers", 1)),
        ("Ray, 2 workers", ("--cluster", "local", "--workers", 2)),
    ):
        out = work / "ray.parquet"
        run = watch(
            predict(arguments.bundle, folder, "--out", out, "--engine", arguments.engine, *words),
            out.with_name(f"{out.name}.parts"),
        )
        print(f"| {name} | {run.seconds:.0f} | {run.rate(SHARD):.1f} |")


if __name__ == "__main__":
    main()
