"""What `node.py` measures a node between: its own process, those who send films to it, and who takes its results.

As a program it is a sender:

    python benchmarks/node_peers.py PORT ACKNOWLEDGED STUDIES IMAGES SIDE FIRST STEP
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association

from freezeframe import files
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.node import PORTS

TESTS = Path(__file__).parent.parent / "tests"
AE_TITLE, SENDER, ARCHIVE = "FREEZEFRAME", "MODALITY", "ARCHIVE"
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}  # dcmtk waits 40 ms an object without it
START_SECONDS, STOP_SECONDS = 180.0, 180.0
RETRIES = 100
DIFFERENT_FILMS = 16


@dataclass(frozen=True)
class RunningNode:
    """A node's process, and where it is."""

    process: subprocess.Popen[bytes]
    configuration: NodeConfiguration
    port: int

    def family(self) -> tuple[list[int], list[int]]:
        """Return the process ids of the node, and of its reading processes with their decoders."""
        return [self.process.pid], _descendants(self.process.pid)


@contextmanager
def running_node(folder: Path, bundle: Path, port: int = 0, **fields: Any) -> Iterator[RunningNode]:
    """Run ``freezeframe node`` for the length of a block.

    Parameters
    ----------
    folder : Path
        Takes ``node.yaml``, what the node says, and its own folder ``node``.
    bundle : Path
        Answers.
    port : int
        For C-STORE; 0 takes a free one.
    **fields
        Of the configuration.
    """
    content = {
        "ae_title": AE_TITLE,
        "folder": "node",
        "bundles": [{"path": str(bundle.absolute())}],
        "dicom": {"port": port},
        "web": {"port": 0},
        "peers": [{"name": "modality", "ae_titles": [SENDER, "ORTHANC"]}],
        "rules": [{"name": "all"}],
        **fields,
    }
    config = folder / "node.yaml"
    files.write_text(config, yaml.safe_dump(content, sort_keys=False))
    configuration = NodeConfiguration.read(config)
    command = [sys.executable, "-m", "freezeframe", "node", "--config", str(config)]
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        ports = configuration.folder / PORTS
        wait_for(lambda: ports.exists() or process.poll() is not None, START_SECONDS, "the node to start")
        if not ports.exists():
            raise SystemExit(f"The node did not start:\n{(folder / 'node.log').read_text()[-3000:]}")
        yield RunningNode(process, configuration, files.read_json(ports)["dicom"])
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def wait_for(condition: Any, seconds: float, what: str) -> None:
    """Wait until a condition holds, or give up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(0.1)


def resident(pids: Sequence[int]) -> float:
    """Return the memory that processes hold in MB, pages that several share counted once for each."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue  # it has ended
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that processes have used."""
    ticks = 0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(words[1])
    found: list[int] = []
    for candidate in parents:
        ancestor = candidate
        while ancestor in parents and ancestor != pid:
            ancestor = parents[ancestor]
        if ancestor == pid and candidate != pid:
            found.append(candidate)
    return found


class Archive:
    """dcmtk's storescp, which takes results and writes them without a sync."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "archive"
        self._folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        command = [
            "/usr/bin/storescp", "--promiscuous", "--max-pdu", "131072", "--aetitle", ARCHIVE,
            "--output-directory", self._folder, str(self.port),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def destination(self) -> dict[str, Any]:
        """Return how a node's configuration names it."""
        return {
            "kind": "dicom", "name": "archive", "ae_title": ARCHIVE, "address": "127.0.0.1", "port": self.port
        }  # fmt: skip

    def uids(self) -> set[str]:
        """Return the SOP instance UIDs that it has: its files are called by modality and UID."""
        return {entry.name.partition(".")[2] for entry in self._folder.iterdir()}

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def read_studies(folder: Path) -> list[list[Dataset]]:
    """Read the DICOM files of a folder, as studies."""
    studies: dict[str, list[Dataset]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        film = dcmread(path)
        studies.setdefault(str(film.StudyInstanceUID), []).append(film)
    if not studies:
        raise SystemExit(f"{folder} holds no .dcm files.")
    return list(studies.values())


def renamed(study: Sequence[Dataset], *names: str) -> list[Dataset]:
    """Give a study and its images UIDs that follow from names, so that it can be sent as another one."""
    uids: Mapping[str, str] = {
        uid: generate_uid(entropy_srcs=[*names, uid])
        for film in study
        for uid in (film.StudyInstanceUID, film.SeriesInstanceUID, film.SOPInstanceUID)
    }
    for film in study:
        film.StudyInstanceUID = uids[film.StudyInstanceUID]
        film.SeriesInstanceUID = uids[film.SeriesInstanceUID]
        film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = uids[film.SOPInstanceUID]
    return list(study)


def associate(port: int, films: Sequence[Dataset]) -> Association:
    """Open an association for what films are."""
    entity = AE(ae_title=SENDER)
    entity.maximum_pdu_size = 131072
    entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = 120
    for sop_class, syntax in sorted({(film.SOPClassUID, film.file_meta.TransferSyntaxUID) for film in films}):
        entity.add_requested_context(sop_class, syntax)
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, _send_at_once)]
    return entity.associate("127.0.0.1", port, ae_title=AE_TITLE, evt_handlers=handlers)


def send_study(port: int, films: Sequence[Dataset]) -> float:
    """Send a study over an association of its own; return when its last image was acknowledged."""
    association = associate(port, films)
    if not association.is_established:
        raise SystemExit("The node takes no association.")
    for film in films:
        if association.send_c_store(film).get("Status") != 0:
            raise SystemExit("The node did not take an image.")
    acknowledged = time.time()
    association.release()
    return acknowledged


def _send_at_once(event: evt.Event) -> None:
    connection: socket.socket = event.assoc.dul.socket.socket  # pyright: ignore[reportOptionalMemberAccess, reportAssignmentType]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def stream(
    port: int, acknowledged: Path, studies: int, images: int, side: int, first: int, step: int
) -> None:
    """Send the studies ``range(first, studies, step)``; write down each image when it was acknowledged.

    Parameters
    ----------
    port : int
        Of the node.
    acknowledged : Path
        Takes a line for each image: the time, its study's UID and its own.
    studies, images : int
        How many, and of how many images.
    side : int
        Of a film, in pixels of 16 bits.
    """
    sys.path.insert(0, str(TESTS / "pacs"))
    from films import make, radiograph  # pyright: ignore[reportMissingImports]

    films = [make(radiograph(seed, side, side)) for seed in range(DIFFERENT_FILMS)]
    association = associate(port, films)
    failures = 0
    with acknowledged.open("w", buffering=1) as lines:
        for number in range(first, studies, step):
            for image in range(images):
                film = films[(number + image) % DIFFERENT_FILMS]
                film.StudyInstanceUID = generate_uid(entropy_srcs=["study", str(number)])
                film.SeriesInstanceUID = f"{film.StudyInstanceUID[:60]}.1"
                film.SOPInstanceUID = generate_uid(entropy_srcs=["image", str(number), str(image)])
                film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
                film.PatientID, film.PatientName = f"PHANTOM-{number:06d}", f"PHANTOM^{number:06d}"
                film.InstanceNumber = image + 1
                while not (association.is_established and _is_taken(association, film)):
                    failures += 1
                    if failures > RETRIES:
                        raise SystemExit(f"{failures} images were not taken.")
                    time.sleep(0.5)
                    if not association.is_established:
                        association = associate(port, films)
                lines.write(f"{time.time()} {film.StudyInstanceUID} {film.SOPInstanceUID}\n")
    association.release()
    if failures:
        print(f"{failures} attempts failed and were repeated.", file=sys.stderr)


def _is_taken(association: Association, film: Dataset) -> bool:
    try:
        return association.send_c_store(film).get("Status") == 0
    except RuntimeError:  # the association has just ended
        return False


if __name__ == "__main__":
    port, acknowledged, *numbers = sys.argv[1:]
    stream(int(port), Path(acknowledged), *map(int, numbers))
