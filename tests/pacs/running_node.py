"""A whole node as a user runs it: `freezeframe node` in a process group of its own, and those who send to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from films import make, radiograph
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation
from waiting import eventually

from freezeframe import files
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.node import PORTS

AE_TITLE, SENDER = "FREEZEFRAME", "MODALITY"


def film(study: int, number: int) -> Dataset:
    """Return one film of a study; the same numbers give the same one."""
    uid = f"1.2.826.0.1.{study}"
    image = make(radiograph(100 * study + number, 60, 48), number)
    image.StudyInstanceUID, image.SeriesInstanceUID = uid, f"{uid}.1"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.{number}"
    image.PatientID, image.PatientName = f"PHANTOM-{study:04d}", f"PHANTOM^{study:04d}"
    return image


class RunningNode:
    """A node's process, which may be killed and started again on the same ports.

    Parameters
    ----------
    folder : Path
        Takes ``node.yaml``, the log, and the node's own folder ``node``.
    bundle : Path
        Answers.
    **fields
        Of the configuration.
    """

    def __init__(self, folder: Path, bundle: Path, **fields: Any) -> None:
        content = {
            "ae_title": AE_TITLE,
            "folder": "node",
            "bundles": [{"path": str(bundle)}],
            "peers": [{"name": "modality", "ae_titles": [SENDER, "ORTHANC"]}],
            "rules": [{"name": "all"}],
            "complete": {"quiet_seconds": 1, "at_most_seconds": 30},
            "dicom": {"port": 0},
            "web": {"port": 0},
        }
        self.folder, self.config = folder, folder / "node.yaml"
        self._content = content | fields
        self._process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, **fields: Any) -> NodeConfiguration:
        """Write the configuration with other fields; the next start takes it."""
        self._content |= fields
        files.write_text(self.config, yaml.safe_dump(self._content))
        self.configuration = NodeConfiguration.read(self.config)
        return self.configuration

    def start(self, *words: str, python: Path = Path(sys.executable)) -> "RunningNode":
        """Start it, and return when it listens."""
        ports = self.configuration.folder / PORTS
        ports.unlink(missing_ok=True)
        with (self.folder / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                [python, "-m", "freezeframe", "node", "--config", str(self.config), *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        eventually(lambda: ports.exists() or self._process is None or self._process.poll() is not None, 120)
        assert ports.exists(), (self.folder / "node.log").read_text()[-3000:]
        found = files.read_json(ports)
        self.dicom_port, self.web_port = found["dicom"], found["web"]
        if self._content["dicom"] == {"port": 0}:  # the same one after a restart: senders know it
            self.configure(dicom={"port": self.dicom_port})
        return self

    def kill(self) -> None:
        """kill -9 of the node; its reading processes end by themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def kill_a_worker(self) -> bool:
        """kill -9 of a reading process, if one runs."""
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and self._is_worker(process):
                os.kill(int(process.name), signal.SIGKILL)
                return True
        return False

    def stop(self) -> int:
        """End it as a service manager does; return its exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(120)
        finally:
            self._process.kill()

    def _is_worker(self, process: Path) -> bool:
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        own = str(self.configuration.folder / "workers.json").encode()
        return b"freezeframe.pacs.reading" in words and own in words


def send(port: int, images: Sequence[Dataset], called: str = AE_TITLE) -> list[str]:
    """Send images over one association; return the SOP instance UIDs that were acknowledged with 0x0000."""
    entity = AE(ae_title=SENDER)
    entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = 30
    entity.add_requested_context(DigitalXRayImageStorageForPresentation, "1.2.840.10008.1.2.1")
    association = entity.associate("127.0.0.1", port, ae_title=called)
    acknowledged: list[str] = []
    try:
        for image in images:
            if not association.is_established:
                break
            status = association.send_c_store(image)
            if status.get("Status") == 0:
                acknowledged.append(image.SOPInstanceUID)
    except (RuntimeError, ValueError):  # the association ended between two images
        pass
    finally:
        if association.is_established:
            association.release()
    return acknowledged


def send_until_acknowledged(port: int, images: Sequence[Dataset], seconds: float = 600) -> None:
    """Send as a modality does: again and again, until each image was acknowledged."""
    left = {image.SOPInstanceUID: image for image in images}
    deadline = time.monotonic() + seconds
    while left:
        assert time.monotonic() < deadline, f"{len(left)} images were never taken"
        for uid in send(port, list(left.values())):
            del left[uid]
        if left:
            time.sleep(0.1)
