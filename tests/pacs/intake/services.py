"""A DICOM service in this process, and dcmtk's programs as its peers."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake.association import DicomService
from freezeframe.pacs.intake.keeping import Keeper


@contextmanager
def serving(
    database: Database, configuration: NodeConfiguration, on_commitment: Any = None, **fields: Any
) -> Iterator[DicomService]:
    """Run the service for the length of a block; fields replace those of `dicom` in the configuration."""
    assert configuration.dicom is not None
    configuration = configuration.model_copy(update={"dicom": configuration.dicom.model_copy(update=fields)})
    service = DicomService(database, configuration, Keeper(database, configuration), on_commitment)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def dcmtk(
    program: str, port: int, *arguments: str | Path, calling: str = "PACS", called: str = "FREEZEFRAME"
) -> subprocess.Popen:
    """Start one of dcmtk's clients. pynetdicom has programs of the same names, so the path is whole."""
    command: Sequence[str | Path] = (
        f"/usr/bin/{program}", "-v", "-aet", calling, "-aec", called, "127.0.0.1", str(port), *arguments,
    )  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str]:
    """Wait for its end; return its exit code and what it printed."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"It did not end:\n{output}") from None
    return process.returncode, output
