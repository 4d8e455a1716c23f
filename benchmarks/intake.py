"""Images that are received and kept per second, beside dcmtk's storescp and Orthanc.

    python benchmarks/intake.py                              # a few minutes; as root, for a network namespace
    taskset -c 0 python benchmarks/intake.py                 # sender and receiver on one core
    python benchmarks/intake.py --only freezeframe --profile # where the time goes

dcmtk's storescu sends images of 2 MB on 1 and on 4 associations, with TCP_NODELAY=1 at both ends; each receiver begins
with an empty folder, and they take turns within each repeat. Rates are medians over the repeats, with their range.

What an answer of success means differs: storescp has written (the file is in the page cache, and no index knows it);
Orthanc with `SyncStorageArea` (its default) has synced the file, and its index is SQLite, not synced by default; this
node has synced file, folder and row. All of it runs in a network namespace with only loopback, because Debian's Orthanc
listens on every address.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

SIDE = 1000  # of 16 bits a pixel: 2 MB
AE_TITLE = "FREEZEFRAME"
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
INSIDE = "FREEZEFRAME_BENCHMARK_INSIDE"
SERVICE = """
import cProfile, pstats, signal, sys, threading
from pathlib import Path
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import open_database
from freezeframe.pacs.intake.association import DicomService
from freezeframe.pacs.intake.keeping import Keeper

class Profiled(DicomService):
    def _hold(self, *arguments):
        profile = cProfile.Profile()
        profile.runcall(super()._hold, *arguments)
        pstats.Stats(profile).sort_stats("tottime").print_stats(14)

folder, port, profiled = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
configuration = NodeConfiguration.parse({
    "folder": folder, "bundles": [{"path": "none"}], "rules": [{"name": "all"}], "dicom": {"port": port},
    "peers": [{"name": "sender", "ae_titles": ["STORESCU", "ECHOSCU"]}],
}, "benchmark")
database = open_database(configuration)
service = (Profiled if profiled else DicomService)(database, configuration, Keeper(database, configuration))
service.start()
end = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: end.set())
end.wait()
service.stop()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="*", default=(1, 4))
    parser.add_argument("--only", nargs="*", default=tuple(RECEIVERS), choices=tuple(RECEIVERS))
    parser.add_argument("--profile", action="store_true", help="print what this node's threads do")
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        inside = 'ip link set lo up && exec "$@"'
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", inside, "sh", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = [write_film(folder / "films" / f"{number}.dcm", number) for number in range(arguments.images)]
        rates: dict[tuple[str, int], list[float]] = {}
        for repeat in range(arguments.repeats):
            for associations in arguments.associations:
                for receiver in arguments.only:
                    place = folder / f"{repeat}-{associations}-{receiver}".replace(" ", "-")
                    place.mkdir()
                    with RECEIVERS[receiver](place, arguments.profile) as port:
                        rate = send(films, port, associations)
                    rates.setdefault((receiver, associations), []).append(rate)
                    subprocess.run(["rm", "-r", place], check=True)
                    os.sync()  # what one left behind is not another's to wait for
    heads = " | ".join(f"{associations} association(s), images/s" for associations in arguments.associations)
    print(f"{len(os.sched_getaffinity(0))} core(s), {arguments.images} images, {arguments.repeats} repeats\n")
    print(f"| receiver | {heads} |\n{'| --- ' * (1 + len(arguments.associations))}|")
    for receiver in arguments.only:
        cells = [shown(rates[receiver, associations]) for associations in arguments.associations]
        print(f"| {receiver} | {' | '.join(cells)} |")


def shown(rates: list[float]) -> str:
    return f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f})"


def write_film(path: Path, number: int) -> Path:
    """Write a synthetic image of noise; two of them make a study."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = ComputedRadiographyImageStorage, f"2.25.70.{number + 1}"
    data.Modality, data.PatientID, data.PatientName = "CR", f"P{number // 2}", f"PHANTOM^{number // 2:04}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"2.25.50.{number // 2 + 1}", f"2.25.60.{number // 2 + 1}"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = SIDE
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = np.random.default_rng(number).integers(0, 4096, SIDE * SIDE, "<u2").tobytes()
    data["PixelData"].VR = "OW"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def send(films: list[Path], port: int, associations: int) -> float:
    """Send all films, divided among associations; return images per second until the last was acknowledged."""
    command = ["/usr/bin/storescu", "-aec", AE_TITLE, "127.0.0.1", str(port)]
    started = time.perf_counter()
    senders = [
        subprocess.Popen([*command, *films[index::associations]], env=ENVIRONMENT)
        for index in range(associations)
    ]
    codes = [sender.wait(600) for sender in senders]
    seconds = time.perf_counter() - started
    if any(codes):
        raise SystemExit("A sender failed.")
    return len(films) / seconds


@contextmanager
def running(command: list[str | Path], port: int, output: Path | None = None) -> Iterator[int]:
    """Run a receiver until the block ends; it is there when it answers C-ECHO."""
    with (output or Path(os.devnull)).open("w") as log:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT)
    try:
        echo = ["/usr/bin/echoscu", "-aec", AE_TITLE, "127.0.0.1", str(port)]
        deadline = time.monotonic() + 120
        while subprocess.run(echo, capture_output=True).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start.")
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def storescp(folder: Path, _: bool) -> Iterator[int]:
    port = free_port()
    command = ["/usr/bin/storescp", "--fork", "-pdu", "131072", "-aet", AE_TITLE, "-od", folder, str(port)]
    with running(command, port):
        yield port


@contextmanager
def orthanc(folder: Path, _: bool, synchronous: bool = True) -> Iterator[int]:
    port = free_port()
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomAet": AE_TITLE, "DicomPort": port,
        "HttpServerEnabled": False, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True, "Plugins": [],
        "SyncStorageArea": synchronous, "StoreMD5ForAttachments": True, "MaximumPduLength": 131072,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with running(["/usr/sbin/Orthanc", folder / "orthanc.json"], port):
        yield port


@contextmanager
def orthanc_not_synchronous(folder: Path, _: bool) -> Iterator[int]:
    with orthanc(folder, False, synchronous=False) as port:
        yield port


@contextmanager
def freezeframe(folder: Path, profile: bool) -> Iterator[int]:
    port = free_port()
    output = folder / "output.txt" if profile else None
    with running([sys.executable, "-c", SERVICE, folder / "node", str(port), str(profile)], port, output):
        yield port
    if output is not None:
        # One table for each association; those of C-ECHO sync nothing.
        print(*(table for table in output.read_text().split("   Ordered by") if "fsync" in table))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


RECEIVERS: dict[str, Callable] = {
    "storescp --fork, not synced": storescp,
    "Orthanc, synchronous storage": orthanc,
    "Orthanc, not synchronous": orthanc_not_synchronous,
    "freezeframe": freezeframe,
}

if __name__ == "__main__":
    main()
