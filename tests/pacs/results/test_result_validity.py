import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import readings
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

BARE = (
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "PatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "BodyPartExamined", "Laterality", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber",
    "PatientOrientation", "WindowCenter", "WindowWidth", "StudyDescription",
)  # fmt: skip


def lut() -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.LUTExplanation = "NORMAL"
    table.LUTData = bytes(range(256)) * 2
    table["LUTData"].VR = "OW"
    return table


ODD = {
    "bare": dict.fromkeys(BARE),
    "empty": dict.fromkeys(BARE[:12], ""),
    "wrong": {
        "StudyDate": "2026.02.31", "StudyTime": "99:00", "PatientSex": "unknown", "PatientBirthDate": "1950.01.31",
        "PatientID": "A\\B\\C", "AccessionNumber": "123456789012345678901234567890", "PatientAge": "seventy",
        "BodyPartExamined": "tórax", "Laterality": "left", "StudyDescription": "x" * 200,
        "WindowCenter": ["1000", "2000"], "WindowWidth": ["0", "400"], "RescaleSlope": "0",
    },
    "japanese": readings.JAPANESE_HEADER,
    "knee": readings.KNEE_HEADER,
    "table": {"WindowCenter": None, "WindowWidth": None, "VOILUTSequence": Sequence([lut()])},
    "frames in a class that has one": {"NumberOfFrames": 2},
    "private class": {"SOPClassUID": UID("1.2.3.4.5.6.7"), "StationName": "X"},
}  # fmt: skip


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("outcome", readings.OUTCOMES)
@pytest.mark.parametrize("kind", ["DX", "CR"])
def test_validators_find_no_errors_in_any_object(folder, radiographs, heat_maps, kind, outcome, language):
    made = readings.make(folder, radiographs[kind], outcome, heat_maps, language=language)
    kinds = ["sr", "sc"] if outcome == "refused" else ["sr", "sc", "gsps"]
    assert [one.kind for one in made] == kinds
    assert readings.errors(folder, made) == {}


@pytest.mark.parametrize("outcome", readings.OUTCOMES)
@pytest.mark.parametrize("odd", ODD)
def test_objects_of_odd_images_are_valid(folder, odd, outcome):
    path = readings.phantom("CR", folder / "odd.dcm", ODD[odd])
    assert readings.errors(folder, readings.make(folder, path, outcome)) == {}


@pytest.mark.parametrize("kind", ["sr", "sc", "gsps"])
def test_the_validators_find_a_broken_object(folder, radiographs, kind):
    data = readings.parsed(readings.make(folder, radiographs["CR"]), kind)
    del data.PatientID, data.InstanceNumber
    data.save_as(folder / "broken.dcm", enforce_file_format=True)
    assert all(
        readings.dciodvfy_errors(validator, folder / "broken.dcm") for validator in readings.VALIDATORS
    )


PIXELMED = ["/usr/share/java/pixelmed.jar", "/usr/share/java/slf4j-api.jar", "/usr/share/java/slf4j-nop.jar"]


def template_errors(path) -> list[str]:
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprOp", "TotalOp", "ExprGrp")]
    command = ["java", *limits, "-cp", ":".join(PIXELMED), "com.pixelmed.validate.DicomSRValidator", path]
    said = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False).stdout
    assert "Found Root Template TID_1500" in said
    assert "IOD validation complete" in said
    return [line for line in said.splitlines() if line.startswith("Error")]


@pytest.mark.slow
def test_the_template_validator_finds_no_errors_in_reports_and_finds_a_broken_one(
    folder, radiographs, tmp_path
):
    assert shutil.which("java"), "install default-jre-headless and libpixelmed-java"
    paths = [tmp_path / f"{name}.dcm" for name in ("positive", "refused", "broken")]
    for path in paths[:2]:
        path.write_bytes(readings.make(folder, radiographs["DX"], path.stem)[0].content)
    broken = dcmread(paths[0])
    (procedure,) = (
        item for item in broken.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "121058"
    )
    procedure.ConceptCodeSequence[0].CodeValue = "12345"
    broken.save_as(paths[2])
    with ThreadPoolExecutor(2) as pool:
        positive, refused, control = pool.map(template_errors, paths)
    assert (positive, refused) == ([], [])
    assert control
