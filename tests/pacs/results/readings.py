"""Readings of synthetic images, as the reading room would give them, and the validators of what is made of them."""

import io
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from freezeframe.bundle.runtime.sentences import InputWarning
from freezeframe.data.phantom import encode, plan
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.reading.findings import ImageReading, Model, Region, StudyReading
from freezeframe.pacs.results.making import MadeObject, make_objects

NOW = 1_795_000_000.25
CLASSES = (
    {"label": "normal", "code": {"scheme": "SCT", "value": "17621005", "meaning": "Normal"}},
    {"label": "pneumonia", "code": {"scheme": "SCT", "value": "233604007", "meaning": "Pneumonia"}},
    {"label": "opacity", "code": None},
)
MODEL = Model(
    name="pneumonia-three",
    sha256="3f9a1c2b" * 8,
    software="0.1.0",
    members=2,
    classes=CLASSES,
    positive_class="pneumonia",
    operating_point="default",
    threshold=0.42,
    validation_sensitivity=0.91,
    validation_specificity=0.88,
)


def configuration(folder: Path, **results: Any) -> NodeConfiguration:
    destinations = results.pop("destinations", [])
    return NodeConfiguration.parse(
        {
            "folder": str(folder),
            "bundles": [{"path": str(folder / "bundle")}],
            "rules": [{"name": "chest"}],
            "results": results,
            "destinations": destinations,
        },
        "node.yaml",
    )


def phantom(kind: str, path: Path, change: Mapping[str, Any] | None = None) -> Path:
    """Write a synthetic radiograph: 'DX' or 'CR', uncompressed; an attribute that is changed to None is removed."""
    site = "A" if kind == "DX" else "B"
    for shot in plan(40, 0):
        if shot.site.name == site:
            data = dcmread(io.BytesIO(encode(shot)))
            if not data.file_meta.TransferSyntaxUID.is_compressed:
                break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that are wrong on purpose
        for keyword, value in (change or {}).items():
            if value is None:
                data.pop(keyword, None)
            else:
                setattr(data, keyword, value)
        data.save_as(path, enforce_file_format=True)
    return path


def image_reading(header: Dataset, probability: float, **change: Any) -> ImageReading:
    rest = 1 - probability
    positive = probability >= 0.42
    rows, columns = int(header.Rows), int(header.Columns)
    left, right, top, bottom = columns * 0.2, columns * 0.4, rows * 0.5, rows * 0.7
    fields: dict[str, Any] = {
        "sop_instance_uid": str(header.SOPInstanceUID),
        "sop_class_uid": str(header.SOPClassUID),
        "series_uid": str(header.SeriesInstanceUID),
        "frame": 0,
        "rows": rows,
        "columns": columns,
        "probabilities": {"normal": 0.7 * rest, "pneumonia": probability, "opacity": 0.3 * rest},
        "calibrated": {"normal": 0.6 * rest, "pneumonia": probability, "opacity": 0.4 * rest},
        "members": {
            "lite0": {"normal": 0.6 * rest, "pneumonia": 0.9 * probability, "opacity": 0.4 * rest},
            "lite1": {"normal": 0.8 * rest, "pneumonia": probability, "opacity": 0.2 * rest},
        },
        "decision": "pneumonia" if positive else "normal",
        "positive": positive,
        "spread": 0.05,
        "warnings": (InputWarning("view", "LL"), InputWarning("border", "0.61")) if positive else (),
        "distance": 0.8,
        "heat_map": "results/heat.png",
        "region": Region(((left, top), (right, top), (right, bottom), (left, bottom), (left, top))),
        "inputs": {},
    }
    return ImageReading(**{**fields, **change})


def study_reading(paths: list[Path], probability: float | None, **change: Any) -> StudyReading:
    """A reading of images whose first is the most suspicious; with None, none could be read."""
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    if probability is None:
        reading = StudyReading(
            str(headers[0].StudyInstanceUID),
            1,
            MODEL,
            (),
            tuple((str(header.SOPInstanceUID), "its pixel data is truncated.") for header in headers),
            "refused",
            None,
        )
    else:
        reading = StudyReading(
            str(headers[0].StudyInstanceUID),
            1,
            MODEL,
            tuple(image_reading(header, probability * 0.9**number) for number, header in enumerate(headers)),
            (),
            "positive" if probability >= 0.42 else "negative",
            probability,
        )
    return StudyReading(**{**reading.__dict__, **change})


def sources(paths: list[Path]) -> dict[str, Path]:
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in paths}


def heat_map(path: Path, rows: int = 300, columns: int = 256) -> Path:
    down, across = np.mgrid[0:rows, 0:columns]
    heat = np.exp(-(((across - 0.3 * columns) / 50) ** 2) - ((down - 0.6 * rows) / 45) ** 2)
    Image.fromarray(np.rint(255 * heat).astype(np.uint8)).save(path)
    return path


VALIDATORS = (Path("/usr/bin/dciodvfy"), Path(sys.executable).parent / "dciodvfy")
"""Debian's build and the newer one of the package dicom3tools."""


def dciodvfy_errors(validator: Path, path: Path) -> list[str]:
    done = subprocess.run([validator, path], capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    return [line for line in said if line.startswith("Error")]


def errors(folder: Path, made: list[MadeObject]) -> dict[str, list[str]]:
    """What both validators find in DICOM objects; empty where they find nothing."""
    found = {}
    for number, one in enumerate(made):
        path = folder / f"checked-{number}.dcm"
        path.write_bytes(one.content)
        for validator in VALIDATORS:
            if said := dciodvfy_errors(validator, path):
                found[f"{one.kind} by {validator}"] = said
    return found


OUTCOMES = {"positive": 0.87, "negative": 0.03, "refused": None}


def make(
    folder: Path,
    path: Path,
    outcome: str = "positive",
    heat_maps: Mapping[str, Path] | None = None,
    **results: Any,
) -> list[MadeObject]:
    """Make all kinds of DICOM objects of one image."""
    return make_objects(
        study_reading([path], OUTCOMES[outcome]),
        sources([path]),
        heat_maps or {},
        configuration(folder, **{"presentation_state": True, **results}),
        NOW,
    )


def parsed(made: list[MadeObject], kind: str) -> Dataset:
    """Return the first object of a kind."""
    return dcmread(io.BytesIO(next(one.content for one in made if one.kind == kind)))


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
JAPANESE_HEADER = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    "PatientName": PersonName(JAPANESE, ["iso8859", "iso2022_jp"]),
    "InstitutionName": None,
    "StudyDescription": "胸部",
}
KNEE_HEADER = {
    "BodyPartExamined": "KNEE",
    "ImageLaterality": "L",
    "TimezoneOffsetFromUTC": "+0900",
    "PatientAge": "045Y",
    "IssuerOfPatientID": "HOSPITAL",
}
