"""The node: how long a result takes, and what ten thousand studies cost.

    python benchmarks/node.py latency BUNDLE FILMS --rate 1 10 --minutes 5 6
    python benchmarks/node.py stream --studies 10000

`latency` sends the studies of a folder of DICOM files to a node beside Orthanc at the moments of a Poisson process (a
fixed number of them; the moments follow from --seed), each over an association of its own, under new UIDs. It measures
from the answer to a study's last C-STORE until Orthanc lists the last of its result objects (a structured report and a
secondary capture), and asks Orthanc every 50 ms. The quiet timer is part of that: a study is complete when no image has
come for so long. So the table also shows what is left without it. Storage commitment is on.

`stream` sends small synthetic films as fast as the node takes them, and looks at memory, disk and backlog meanwhile.
Then it compares what was acknowledged with what the node holds: each image, one current result of each study, each
result object at the destination, nothing else. Without --bundle a tiny one answers, so that it is the node that is
measured. Secondary captures take 3 MB each, so they are left out unless --secondary-capture is given.

Both print Markdown; progress goes to standard error. As root, Orthanc gets a network namespace of its own.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from pydicom.dataset import Dataset
from sqlalchemy import func, select

from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import (
    DELIVERY_DONE,
    DONE,
    Delivery,
    Image,
    Job,
    Result,
    ResultObject,
    Study,
    Worker,
)
from freezeframe.pacs.trial.orthanc import Orthanc, orthanc
from node_peers import (
    AE_TITLE,
    TESTS,
    Archive,
    RunningNode,
    processor_seconds,
    read_studies,
    renamed,
    resident,
    running_node,
    send_study,
    wait_for,
)

SECONDS_BETWEEN_ASKING = 0.05
SECONDS_BETWEEN_SAMPLES = 5.0
QUIET_SECONDS = 1.0
PARTS = (
    ("all", "last image acknowledged -> last object in the PACS"),
    ("without timer", "the same without the quiet timer"),
    ("complete", "- quiet timer over -> reading ordered"),
    ("waiting", "- ordered -> a worker begins"),
    ("reading", "- decoding, networks, heat maps"),
    ("objects", "- result objects made and stored"),
    ("delivery", "- stored -> C-STORE of the last object answered"),
    ("committed", "(answered -> storage commitment noted)"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("latency")
    one.add_argument("bundle", type=Path)
    one.add_argument("films", type=Path)
    one.add_argument("--rate", type=float, nargs="+", default=[1.0, 10.0], help="studies a minute")
    one.add_argument("--minutes", type=float, nargs="+", default=[5.0, 6.0], help="for each rate")
    one.add_argument("--quiet", type=float, default=QUIET_SECONDS, help="the node's quiet_seconds")
    one.add_argument("--seed", type=int, default=0)
    two = commands.add_parser("stream")
    two.add_argument("--studies", type=int, default=10_000)
    two.add_argument("--images", type=int, default=1, help="of a study")
    two.add_argument("--side", type=int, default=256, help="of a film, in pixels of 16 bits")
    two.add_argument("--associations", type=int, default=1)
    two.add_argument("--workers", type=int, default=1)
    two.add_argument("--bundle", type=Path, help="a tiny one where left out")
    two.add_argument("--destination", choices=("none", "scp", "orthanc"), default="scp")
    two.add_argument("--secondary-capture", action="store_true")
    two.add_argument("--minutes", type=float, default=120, help="then it gives up")
    for command in (one, two):
        command.add_argument("--folder", type=Path, help="kept; a temporary one where left out")
    arguments = parser.parse_args()
    with place(arguments.folder) as folder:
        (latency if arguments.command == "latency" else stream)(folder, arguments)


@contextmanager
def place(given: Path | None) -> Iterator[Path]:
    if given is None:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
    else:
        given.mkdir(parents=True)
        yield given.absolute()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Sent:
    """A study that was sent: its UID, and when its last image was acknowledged."""

    study_uid: str
    acknowledged: float


def latency(folder: Path, arguments: argparse.Namespace) -> None:
    studies = read_studies(arguments.films)
    if len(arguments.rate) != len(arguments.minutes):
        raise SystemExit("Give --minutes for each --rate.")
    measured = []
    with orthanc(folder) as pacs:
        destination = {
            "kind": "dicom", "name": "pacs", "ae_title": pacs.ae_title, "address": "127.0.0.1",
            "port": pacs.dicom_port, "commitment": True,
        }  # fmt: skip
        patience = {"quiet_seconds": arguments.quiet, "at_most_seconds": 300}
        with running_node(folder, arguments.bundle, complete=patience, destinations=[destination]) as node:
            pacs.add_modality(AE_TITLE, node.port)
            database = open_database(node.configuration)
            # The first reading also pays for what is loaded late; a node runs for months.
            warm = [send_study(node.port, renamed(studies[-1], "first"))]
            wait_for(lambda: states(database) == {DONE: len(warm)}, 120, "the first result")
            with Watcher(pacs) as watcher:
                for rate, minutes in zip(arguments.rate, arguments.minutes, strict=True):
                    sent = send_studies(node, studies, rate, minutes, arguments.seed)
                    wait_for(
                        lambda sent=sent: is_all_done(database, sent), 600, "the last results to be committed"
                    )
                    time.sleep(2 * SECONDS_BETWEEN_ASKING)
                    say(f"{len(sent)} studies at {rate:g} a minute are done.")
                    measured.append((rate, minutes, sent))
                seen = watcher.seen()
            workers = node.family()[1]
            say(f"Memory: node {resident([node.process.pid]):.0f} MB, reading {resident(workers):.0f} MB")
            for rate, minutes, sent in measured:
                print_latency(rate, minutes, times_of(database, node, sent, seen, arguments.quiet))
            database.close()


def send_studies(
    node: RunningNode, studies: Sequence[list[Dataset]], rate: float, minutes: float, seed: int
) -> list[Sent]:
    """Send ``rate * minutes`` studies at the moments of a Poisson process."""
    chance = random.Random(f"{seed} {rate} {minutes}")
    count = max(1, round(rate * minutes))
    moments = sorted(chance.uniform(0, 60 * minutes) for _ in range(count))
    begun = time.monotonic()
    sent = []
    for number, moment in enumerate(moments):
        study = renamed(studies[number % len(studies)], str(rate), str(number))
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        sent.append(Sent(str(study[0].StudyInstanceUID), send_study(node.port, study)))
        say(f"{number + 1} of {count} studies were sent.")
    return sent


class Watcher:
    """Asks Orthanc again and again what is new, and remembers when it saw it."""

    def __init__(self, pacs: Orthanc) -> None:
        self._pacs = pacs
        self._at: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def seen(self) -> dict[str, float]:
        """Return when each SOP instance was first listed."""
        return {uid: self._at[own] for uid, own in self._pacs.instances().items() if own in self._at}

    def _watch(self) -> None:
        since = self._pacs.rest("/changes?last")["Last"]
        with httpx.Client(
            base_url=self._pacs.http_url, auth=self._pacs.auth, trust_env=False, timeout=60
        ) as client:
            while not self._end.wait(SECONDS_BETWEEN_ASKING):
                found = client.get("/changes", params={"since": since, "limit": 100}).json()
                now = time.time()
                since = found["Last"]
                for change in found["Changes"]:
                    if change["ChangeType"] == "NewInstance":
                        self._at.setdefault(change["ID"], now)


def times_of(
    database: Database, node: RunningNode, sent: Sequence[Sent], seen: dict[str, float], quiet: float
) -> dict[str, list[float]]:
    """Return the seconds of each part, for each study."""
    stored = stored_after(node)
    times: dict[str, list[float]] = {name: [] for name, _ in PARTS}
    for one in sent:
        with database.reading() as session:
            job, result = session.execute(
                select(Job, Result)
                .join(Result, Result.job_id == Job.id)
                .join(Study, Study.id == Job.study_id)
                .where(Study.study_uid == one.study_uid)
            ).one()
            rows = session.execute(
                select(ResultObject.sop_instance_uid, Delivery.sent_at, Delivery.done_at)
                .join(Delivery, Delivery.object_id == ResultObject.id)
                .where(ResultObject.result_id == result.id)
            ).all()
        begins = result.created_at - result.seconds
        ends = begins + stored[job.id]
        answered = max(row.sent_at for row in rows)
        there = max(seen[row.sop_instance_uid] for row in rows)
        parts = {
            "all": there - one.acknowledged,
            "without timer": there - one.acknowledged - quiet,
            "complete": job.created_at - one.acknowledged - quiet,
            "waiting": begins - job.created_at,
            "reading": result.seconds,
            "objects": ends - result.created_at,
            "delivery": answered - ends,
            "committed": max(row.done_at for row in rows) - answered,
        }
        for name, value in parts.items():
            times[name].append(value)
    return times


def stored_after(node: RunningNode) -> dict[int, float]:
    """Return of each job how long it took a worker until its result and objects were stored, from the log."""
    found = {}
    for path in (node.configuration.folder / "log").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry["message"] == "A study was read.":
                found[entry["job"]] = entry["seconds"]
    return found


def print_latency(rate: float, minutes: float, times: dict[str, list[float]]) -> None:
    count = len(times["all"])
    print(f"\n{rate:g} studies a minute for {minutes:g} minutes: {count} studies. Seconds.\n")
    print("| from -> to | p50 | p95 | p99 | least | most |\n| --- | --- | --- | --- | --- | --- |")
    for name, words in PARTS:
        values = np.array(times[name])
        cells = [*np.percentile(values, (50, 95, 99)), values.min(), values.max()]
        print(f"| {words} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")


@dataclass(frozen=True)
class Sample:
    """The node at one moment; memory and disk in MB."""

    seconds: float
    acknowledged: int
    waiting: int
    done: int
    node: float
    reading: float
    database: float


def stream(folder: Path, arguments: argparse.Namespace) -> None:
    check_room(folder, arguments)
    with ExitStack() as held:
        destinations, archive, pacs = [], None, None
        if arguments.destination == "scp":
            archive = Archive(folder)
            held.callback(archive.close)
            destinations = [archive.destination()]
        elif arguments.destination == "orthanc":
            pacs = held.enter_context(orthanc(folder))
            destinations = [
                {"kind": "dicom", "name": "pacs", "ae_title": pacs.ae_title, "address": "127.0.0.1",
                 "port": pacs.dicom_port}
            ]  # fmt: skip
        node = held.enter_context(
            running_node(
                folder,
                arguments.bundle or tiny_bundle(folder / "bundle"),
                complete={"quiet_seconds": QUIET_SECONDS, "at_most_seconds": 60},
                destinations=destinations,
                results={"secondary_capture": arguments.secondary_capture},
                limits={"workers": arguments.workers},
            )
        )
        if pacs is not None:
            pacs.add_modality(AE_TITLE, 0)
        database = open_database(node.configuration)
        held.callback(database.close)
        wait_for(lambda: workers_of(database) == arguments.workers, 120, "the workers")
        begun = time.time()
        notes = start_senders(held, folder, node, arguments)
        samples = watch(database, node, notes, begun, arguments)
        used = {
            "node": processor_seconds([node.process.pid]),
            "reading": processor_seconds(node.family()[1]),
        }
        acknowledged = read_notes(notes)
        problems = compare(database, node, acknowledged)
        if archive is not None or pacs is not None:
            there = archive.uids() if archive is not None else set(pacs.instances()) if pacs else set()
            problems += compare_objects(database, there)
        print_stream(node, samples, acknowledged, begun, used, problems, arguments)
    if problems:
        raise SystemExit(1)


def check_room(folder: Path, arguments: argparse.Namespace) -> None:
    """Refuse to begin what the disk has no room for."""
    a_study = arguments.images * (2 * arguments.side**2 + 4000) + 60_000
    if arguments.secondary_capture:
        a_study += 2 * 3_300_000  # the node's, and the destination's
    needed, free = arguments.studies * a_study + 3e9, shutil.disk_usage(folder).free
    if needed > free:
        raise SystemExit(
            f"{arguments.studies} studies need up to {needed / 1e9:.0f} GB in {folder}; {free / 1e9:.0f} GB are free."
        )


def tiny_bundle(folder: Path) -> Path:
    """Make a bundle of two networks that take next to no time, with heat maps and an operating point."""
    sys.path.insert(0, str(TESTS / "bundle"))
    from making import make_bundle  # pyright: ignore[reportMissingImports]

    return make_bundle(folder)


def start_senders(
    held: ExitStack, folder: Path, node: RunningNode, arguments: argparse.Namespace
) -> list[Path]:
    """Start a sender for each association; return the files that say what was acknowledged."""
    notes = []
    for first in range(arguments.associations):
        notes.append(folder / f"acknowledged-{first}.txt")
        numbers = (arguments.studies, arguments.images, arguments.side, first, arguments.associations)
        program = Path(__file__).with_name("node_peers.py")
        command = [sys.executable, program, str(node.port), notes[-1], *map(str, numbers)]
        sender = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        held.callback(sender.wait, 60)
        held.callback(sender.terminate)
    return notes


def watch(
    database: Database, node: RunningNode, notes: list[Path], begun: float, arguments: argparse.Namespace
) -> list[Sample]:
    """Look at the node until all is done."""
    samples: list[Sample] = []
    wanted = arguments.studies * arguments.images
    while True:
        counts = states(database)
        main_process, workers = node.family()
        acknowledged = sum(count_lines(path) for path in notes)
        sample = Sample(
            time.time() - begun, acknowledged, sum(counts.values()) - counts[DONE], counts[DONE],
            resident(main_process), resident(workers), size_of_database(node.configuration.folder),
        )  # fmt: skip
        samples.append(sample)
        say(
            f"{sample.seconds:6.0f} s: {acknowledged} images acknowledged, {sample.done} studies done, "
            f"{sample.waiting} open; node {sample.node:.0f} MB, reading {sample.reading:.0f} MB, "
            f"database {sample.database:.0f} MB"
        )
        if acknowledged == wanted and counts == {DONE: arguments.studies}:
            return samples
        if node.process.poll() is not None:
            raise SystemExit("The node has ended.")
        if sample.seconds > 60 * arguments.minutes:
            say("The time is over: what is open counts as lost below.")
            return samples
        time.sleep(SECONDS_BETWEEN_SAMPLES if sample.done < arguments.studies * 0.99 else 0.5)


def states(database: Database) -> Counter[str]:
    with database.reading() as session:
        found = session.execute(select(Study.state, func.count().label("studies")).group_by(Study.state))
        return Counter({row.state: row.studies for row in found})


def workers_of(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count(Worker.name))) or 0


def is_all_done(database: Database, sent: Sequence[Sent]) -> bool:
    with database.reading() as session:
        done = set(session.scalars(select(Study.study_uid).where(Study.state == DONE)))
    return all(one.study_uid in done for one in sent)


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def read_notes(notes: list[Path]) -> dict[str, tuple[float, str]]:
    """Return when each image was acknowledged, and its study, by SOP instance UID."""
    lines = [line.split() for path in notes for line in path.read_text().splitlines()]
    return {uid: (float(moment), study) for moment, study, uid in lines}


def size_of_database(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("node.sqlite*")) / 1e6


def compare(database: Database, node: RunningNode, acknowledged: dict[str, tuple[float, str]]) -> list[str]:
    """Return what is not as it should be in the node."""
    problems = []
    studies = {study for _, study in acknowledged.values()}
    with database.reading() as session:
        images = session.execute(select(Image.sop_instance_uid, Image.path, Image.size)).all()
        known = {row.sop_instance_uid for row in images}
        results = Counter(
            session.scalars(
                select(Study.study_uid).join(Result, Result.study_id == Study.id).where(Result.current)
            )
        )
        all_results = session.scalar(select(func.count(Result.id)))
        deliveries = Counter(session.scalars(select(Delivery.state)))
        found = states(database)
    missing = [row for row in images if not is_whole(node.configuration.folder / row.path, row.size)]
    for count, words in (
        (len(acknowledged.keys() - known), "images were acknowledged and are not known"),
        (len(known - acknowledged.keys()), "images are known and were never acknowledged"),
        (len(missing), "files of images are missing or not whole"),
        (len(studies - results.keys()), "studies have no current result"),
        (len(results.keys() - studies), "results are of studies that were not sent"),
        (sum(count > 1 for count in results.values()), "studies have several current results"),
        ((all_results or 0) - len(studies), "results are more than there are studies"),
        (sum(deliveries.values()) - deliveries[DELIVERY_DONE], "deliveries are not done"),
        (sum(found.values()) - found[DONE], "studies are not done"),
        (int(audit.verify(database).broken is not None), "audit trail is broken"),
    ):
        if count:
            problems.append(f"{count} {words}")
    return problems


def is_whole(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def compare_objects(database: Database, there: set[str]) -> list[str]:
    """Return how what the destination has differs from what the node has made."""
    with database.reading() as session:
        made = set(session.scalars(select(ResultObject.sop_instance_uid)))
    words = {
        "objects are not at the destination": made - there,
        "objects at the destination are not the node's": there - made,
    }
    return [f"{len(uids)} {text}" for text, uids in words.items() if uids]


def print_stream(
    node: RunningNode,
    samples: list[Sample],
    acknowledged: dict[str, tuple[float, str]],
    begun: float,
    used: dict[str, float],
    problems: list[str],
    arguments: argparse.Namespace,
) -> None:
    sending = max(moment for moment, _ in acknowledged.values()) - begun
    last = samples[-1]
    print(
        f"\n{last.done} of {arguments.studies} studies done, {arguments.images} image(s) each of "
        f"{arguments.side} x {arguments.side} pixels of 16 bits, {arguments.associations} association(s), "
        f"{arguments.workers} worker(s), destination: {arguments.destination}."
    )
    print(
        f"Intake {len(acknowledged) / sending:.1f} images/s for {sending:.0f} s; all in all "
        f"{last.done / last.seconds:.1f} studies/s for {last.seconds:.0f} s; processor time a study: node "
        f"{1000 * used['node'] / last.done:.0f} ms, reading {1000 * used['reading'] / last.done:.0f} ms.\n"
    )
    heads = (
        "studies done", "s", "studies/s since the row above", "images acknowledged", "open", "node, MB",
        "reading, MB", "database, MB",
    )  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    before = replace(samples[0], seconds=0.0, done=0)
    for tenth in range(1, 11):
        row = next((sample for sample in samples if sample.done * 10 >= arguments.studies * tenth), None)
        if row is None or row.done == before.done:
            continue
        rate = (row.done - before.done) / (row.seconds - before.seconds)
        cells: list[Any] = [
            row.done, f"{row.seconds:.0f}", f"{rate:.1f}", row.acknowledged, row.waiting, f"{row.node:.0f}",
            f"{row.reading:.0f}", f"{row.database:.0f}",
        ]  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")
        before = row
    most = (max(sample.node for sample in samples), max(sample.reading for sample in samples))
    print(
        f"\nMost memory: node {most[0]:.0f} MB, reading {most[1]:.0f} MB. Most open: "
        f"{max(sample.waiting for sample in samples)} studies."
    )
    sizes = {name: float(size_of(node.configuration.folder / name)) for name in ("images", "results", "log")}
    sizes["database"] = last.database * 1e6
    parts = (f"{name} {size / max(1, last.done) / 1e3:.1f}" for name, size in sizes.items())
    print(f"Disk a study, kB: {', '.join(parts)}.")
    print(f"Lost or wrong: {'; '.join(problems) or 'nothing'}.")


def size_of(folder: Path) -> int:
    """Return the bytes that the files of a folder take on the disk, whole blocks."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
