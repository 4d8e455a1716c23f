import io
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import readings
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from pydicom.valuerep import PersonName

from freezeframe.pacs import uids
from freezeframe.pacs.results.making import MadeObject, NoSourceError, make_objects
from freezeframe.pacs.results.source import day, person_name, time_of_day

OUTCOMES = {"positive": 0.87, "negative": 0.03, "refused": None}
BARE = (
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "PatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "BodyPartExamined", "Laterality", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber",
    "PatientOrientation", "WindowCenter", "WindowWidth", "StudyDescription",
)  # fmt: skip
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


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
    "japanese": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": PersonName(JAPANESE, ["iso8859", "iso2022_jp"]),
        "InstitutionName": None, "StudyDescription": "胸部",
    },
    "knee": {"BodyPartExamined": "KNEE", "ImageLaterality": "L", "TimezoneOffsetFromUTC": "+0900"},
    "table": {"WindowCenter": None, "WindowWidth": None, "VOILUTSequence": Sequence([lut()])},
    "frames in a class that has one": {"NumberOfFrames": 2},
    "private class": {"SOPClassUID": UID("1.2.3.4.5.6.7"), "StationName": "X"},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def radiographs(folder):
    return {kind: readings.phantom(kind, folder / f"{kind}.dcm") for kind in ("DX", "CR")}


@pytest.fixture(scope="module")
def heat_maps(folder, radiographs):
    (folder / "results").mkdir()
    path = readings.heat_map(folder / "results" / "heat.png")
    return {uid: path for radiograph in radiographs.values() for uid in readings.sources([radiograph])}


def make(folder, path, outcome="positive", heat_maps=None, **results) -> list[MadeObject]:
    results = {"presentation_state": True, **results}
    return make_objects(
        readings.study_reading([path], OUTCOMES[outcome]),
        readings.sources([path]),
        heat_maps or {},
        readings.configuration(folder, **results),
        readings.NOW,
    )


def errors(folder, made: list[MadeObject]) -> dict[str, list[str]]:
    found = {}
    for number, one in enumerate(made):
        path = folder / f"checked-{number}.dcm"
        path.write_bytes(one.content)
        for validator in readings.VALIDATORS:
            if said := readings.dciodvfy_errors(validator, path):
                found[f"{one.kind} by {validator}"] = said
    return found


def parsed(made: list[MadeObject], kind: str) -> Dataset:
    return dcmread(io.BytesIO(next(one.content for one in made if one.kind == kind)))


def items(data: Dataset):
    """Yield every content item of a report."""
    for item in data.get("ContentSequence", []):
        yield item
        yield from items(item)


def values(data: Dataset, code: str) -> list:
    """Return the values of the content items of a concept name."""
    found = []
    for item in items(data):
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeValue == code:
            if item.ValueType == "NUM":
                found.append(float(item.MeasuredValueSequence[0].NumericValue))
            elif item.ValueType == "CODE":
                found.append(item.ConceptCodeSequence[0].CodeMeaning)
            elif item.ValueType == "TEXT":
                found.append(item.TextValue)
            elif item.ValueType == "SCOORD":
                found.append(list(item.GraphicData))
    return found


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("kind", ["DX", "CR"])
def test_validators_find_no_errors_in_any_object(folder, radiographs, heat_maps, kind, outcome, language):
    made = make(folder, radiographs[kind], outcome, heat_maps, language=language)
    kinds = ["sr", "sc"] if outcome == "refused" else ["sr", "sc", "gsps"]
    assert [one.kind for one in made] == kinds
    assert errors(folder, made) == {}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("odd", ODD)
def test_objects_of_odd_images_are_valid(folder, odd, outcome):
    path = readings.phantom("CR", folder / "odd.dcm", ODD[odd])
    assert errors(folder, make(folder, path, outcome)) == {}


@pytest.mark.parametrize("kind", ["sr", "sc", "gsps"])
def test_the_validators_find_a_broken_object(folder, radiographs, kind):
    data = parsed(make(folder, radiographs["CR"]), kind)
    del data.PatientID, data.InstanceNumber
    data.save_as(folder / "broken.dcm", enforce_file_format=True)
    assert all(
        readings.dciodvfy_errors(validator, folder / "broken.dcm") for validator in readings.VALIDATORS
    )


PIXELMED = ["/usr/share/java/pixelmed.jar", "/usr/share/java/slf4j-api.jar", "/usr/share/java/slf4j-nop.jar"]


def template_errors(path) -> list[str]:
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprOp", "TotalOp", "ExprGrp")]
    command = ["java", *limits, "-cp", ":".join(PIXELMED), "com.pixelmed.validate.DicomSRValidator", path]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout
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
        path.write_bytes(make(folder, radiographs["DX"], path.stem)[0].content)
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


def test_the_same_reading_and_time_give_the_same_bytes(folder, radiographs, heat_maps):
    first = make(folder, radiographs["DX"], heat_maps=heat_maps)
    second = make(folder, radiographs["DX"], heat_maps=heat_maps)
    assert [one.content for one in first] == [one.content for one in second]


def test_another_version_or_bundle_has_other_uids_and_another_series(folder, radiographs):
    path = radiographs["DX"]
    reading = readings.study_reading([path], 0.87)
    others = [
        reading,
        replace(reading, version=2),
        replace(reading, model=replace(reading.model, sha256="ab" * 32)),
    ]
    made = [
        make_objects(one, readings.sources([path]), {}, readings.configuration(folder), readings.NOW)
        for one in others
    ]
    data = [dcmread(io.BytesIO(one.content)) for objects in made for one in objects]
    assert len({one.SOPInstanceUID for one in data}) == len({one.SeriesInstanceUID for one in data}) == 6
    assert {one.StudyInstanceUID for one in data} == {reading.study_uid}


def test_the_uids_of_a_made_object_are_those_inside_it(folder, radiographs):
    for one in make(folder, radiographs["DX"]):
        data = dcmread(io.BytesIO(one.content))
        assert (one.sop_class_uid, one.sop_instance_uid) == (data.SOPClassUID, data.SOPInstanceUID)
        assert uids.checked(one.sop_instance_uid) == one.sop_instance_uid
        assert one.content[128:132] == b"DICM"


def test_a_report_says_finding_probability_threshold_members_and_algorithm(folder, radiographs):
    report = parsed(make(folder, radiographs["DX"]), "sr")
    assert values(report, "121071") == ["Pneumonia"]
    assert values(report, "121052") == ["Present"]
    assert values(report, "111012") == [87.0]
    assert values(report, "122411") == [42.0]
    assert values(report, "by_member") == [78.3, 87.0]
    assert values(report, "spread") == [5.0]
    assert "bundle SHA-256: " + readings.MODEL.sha256 in values(report, "111002")
    assert values(report, "111001")[0] == "pneumonia-three"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"


def test_a_report_has_the_warnings_in_the_language_of_the_configuration(folder, radiographs):
    english = values(parsed(make(folder, radiographs["DX"]), "sr"), "121106")
    spanish = values(parsed(make(folder, radiographs["DX"], language="es"), "sr"), "121106")
    assert english[0] == "AI result, not verified."
    assert "Image 1 of 1: The DICOM header says view LL, which the model was not made for." in english
    assert spanish[0] == "Resultado de IA, no verificado."
    assert any("proyección LL" in sentence for sentence in spanish)


def test_the_region_is_the_heat_maps_where_something_was_found_and_else_the_whole_image(folder, radiographs):
    path = radiographs["DX"]
    header = dcmread(path, stop_before_pixels=True)
    whole = [0, 0, header.Columns, 0, header.Columns, header.Rows, 0, header.Rows, 0, 0]
    region = [value for point in readings.image_reading(header, 0.9).region.points for value in point]
    for outcome, expected, meaning in (
        ("positive", region, "Main region of the heat map"),
        ("negative", whole, "Whole image"),
        ("refused", whole, "Whole image"),
    ):
        report = parsed(make(folder, path, outcome), "sr")
        assert values(report, "111030") == [pytest.approx(expected, rel=1e-6)]
        assert values(report, "region_meaning") == [meaning]


def test_a_class_without_a_code_has_a_private_one_that_stays_the_same(folder, radiographs):
    path = radiographs["DX"]
    reading = readings.study_reading([path], 0.87)
    model = replace(reading.model, positive_class="opacity")
    made = make_objects(
        replace(reading, model=model),
        readings.sources([path]),
        {},
        readings.configuration(folder),
        readings.NOW,
    )
    finding = next(
        item.ConceptCodeSequence[0]
        for item in items(parsed(made, "sr"))
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeValue == "121071"
    )
    assert (finding.CodingSchemeDesignator, finding.CodeValue, finding.CodeMeaning) == (
        "99FREEZEFRAME", "class-ad9a0b2edd", "opacity",
    )  # fmt: skip
    assert errors(folder, made) == {}


def test_a_study_without_operating_point_reports_the_class_that_was_decided_on(folder, radiographs):
    path = radiographs["DX"]
    reading = readings.study_reading([path], 0.87)
    model = replace(reading.model, positive_class=None, operating_point=None, threshold=None)
    made = make_objects(
        replace(reading, model=model, probability=None),
        readings.sources([path]), {}, readings.configuration(folder, presentation_state=True), readings.NOW,
    )  # fmt: skip
    assert errors(folder, made) == {}
    assert values(parsed(made, "sr"), "121071") == ["Pneumonia"]


def test_a_report_of_a_study_that_could_not_be_read_says_why(folder, radiographs):
    sentences = values(parsed(make(folder, radiographs["DX"], "refused"), "sr"), "121106")
    assert "says nothing about the patient" in sentences[1]
    assert sentences[2].endswith("could not be read: its pixel data is truncated.")


def test_a_study_without_any_size_of_its_images_is_reported_all_the_same(folder):
    path = readings.phantom("CR", folder / "sizeless.dcm")
    reading, sources = readings.study_reading([path], None), readings.sources([path])
    data = dcmread(path)
    del data.Rows, data.Columns
    data.save_as(path)
    made = make_objects(reading, sources, {}, readings.configuration(folder), readings.NOW)
    assert errors(folder, made) == {}


def test_every_image_of_a_study_has_its_own_group_and_capture(folder):
    paths = [
        readings.phantom("CR", folder / f"image-{number}.dcm", {"SOPInstanceUID": f"1.2.3.{number + 1}"})
        for number in range(10)
    ]
    reading = readings.study_reading(paths, 0.95)
    made = make_objects(reading, readings.sources(paths), {}, readings.configuration(folder), readings.NOW)
    assert [one.kind for one in made] == ["sr", "sc", "sc", "sc", "sc"]
    assert errors(folder, made) == {}
    report = parsed(made, "sr")
    assert len(values(report, "111030")) == 8
    assert "2 more images were read and are not shown here." in values(report, "121106")
    assert [dcmread(io.BytesIO(one.content)).InstanceNumber for one in made[1:]] == [1, 2, 3, 4]


def test_a_frame_of_several_is_referred_to_by_its_number(folder):
    path = readings.phantom("CR", folder / "frames.dcm")
    data = dcmread(path)
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    data.NumberOfFrames = 2
    data.PixelData = data.PixelData * 2
    data.save_as(path)
    reading = readings.study_reading([path], 0.9)
    reading = replace(reading, images=(replace(reading.images[0], frame=1),))
    made = make_objects(reading, readings.sources([path]), {}, readings.configuration(folder), readings.NOW)
    references = [item for item in items(parsed(made, "sr")) if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedFrameNumber for item in references] == [2]
    assert errors(folder, made) == {}


def test_a_name_in_another_character_set_survives(folder):
    path = readings.phantom("CR", folder / "name.dcm", ODD["japanese"])
    for one in make(folder, path):
        data = dcmread(io.BytesIO(one.content))
        assert data.SpecificCharacterSet == "ISO_IR 192"
        assert str(data.PatientName) == JAPANESE


def test_a_side_is_said_of_a_part_that_has_two_and_never_in_a_report(folder, radiographs):
    knee = make(folder, readings.phantom("CR", folder / "knee.dcm", ODD["knee"]))
    assert [(parsed(knee, kind).BodyPartExamined, parsed(knee, kind).Laterality) for kind in ("sc", "gsps")] == [
        ("KNEE", "L"), ("KNEE", "L"),
    ]  # fmt: skip
    assert "Laterality" not in parsed(knee, "sr")
    assert "BodyPartExamined" not in parsed(knee, "sr")
    assert "Laterality" not in parsed(make(folder, radiographs["CR"]), "sc")


def test_objects_are_dated_in_the_time_zone_of_the_images(folder):
    path = readings.phantom("CR", folder / "zone.dcm", ODD["knee"])
    report = parsed(make(folder, path), "sr")
    assert (report.TimezoneOffsetFromUTC, report.ContentDate, report.ContentTime) == (
        "+0900",
        "20261118",
        "200640.250000",
    )


def test_the_series_description_has_model_and_version(folder, radiographs):
    for one in make(folder, radiographs["DX"]):
        assert dcmread(io.BytesIO(one.content)).SeriesDescription == "AI pneumonia-three 0.1.0 (3f9a1c2b)"


def test_only_what_the_configuration_wants_is_made(folder, radiographs):
    path = radiographs["DX"]
    assert make(folder, path, "negative", negative=False) == []
    assert make(folder, path, "refused", refused=False) == []
    kinds = [one.kind for one in make(folder, path, structured_report=False, presentation_state=False)]
    assert kinds == ["sc"]


def test_no_state_is_made_of_a_colour_image(folder):
    path = readings.phantom("CR", folder / "colour.dcm")
    data = dcmread(path)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = b"\x40" * (data.Rows * data.Columns * 3)
    data["PixelData"].VR = "OB"
    del data.RescaleSlope, data.RescaleIntercept, data.RescaleType
    data.save_as(path)
    made = make(folder, path)
    assert [one.kind for one in made] == ["sr", "sc"]
    assert errors(folder, made) == {}


def test_a_state_shows_the_outline_and_keeps_the_image_as_its_window_has_it(folder, radiographs):
    source = dcmread(radiographs["CR"], stop_before_pixels=True)
    state = parsed(make(folder, radiographs["CR"]), "gsps")
    assert state.SoftcopyVOILUTSequence[0].WindowWidth == source.WindowWidth
    shape = "INVERSE" if source.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"
    assert state.PresentationLUTShape == shape
    (annotation,) = state.GraphicAnnotationSequence
    assert annotation.GraphicObjectSequence[0].NumberOfGraphicPoints == 5
    assert "pneumonia: 87.0%" in annotation.TextObjectSequence[0].UnformattedTextValue


def test_a_study_whose_images_are_gone_is_said_to_be(folder, radiographs):
    reading = readings.study_reading([radiographs["DX"]], 0.87)
    with pytest.raises(NoSourceError, match="No image of the study"):
        make_objects(reading, {}, {}, readings.configuration(folder), readings.NOW)


TEXTS = st.text(max_size=80)
KEYWORDS = [
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "PatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "BodyPartExamined", "Laterality", "ReferringPhysicianName", "StudyDescription", "PatientAge",
    "IssuerOfPatientID", "TimezoneOffsetFromUTC", "ImageLaterality", "PhotometricInterpretation",
]  # fmt: skip
REQUIRED = {
    "sr": (
        "CompletionFlag",
        "VerificationFlag",
        "ContentSequence",
        "CurrentRequestedProcedureEvidenceSequence",
    ),
    "sc": ("PixelData", "Rows", "ConversionType", "PhotometricInterpretation"),
}


@settings(max_examples=25, deadline=None)
@given(header=st.dictionaries(st.sampled_from(KEYWORDS), TEXTS))
def test_whatever_a_header_says_the_objects_have_what_they_must(folder, radiographs, header):
    path = folder / "any.dcm"
    data = dcmread(radiographs["CR"])
    data.SpecificCharacterSet = "ISO_IR 192"
    for keyword, text in header.items():
        try:
            setattr(data, keyword, text)
            data.save_as(path)
        except Exception:  # not even pydicom writes it
            del data[keyword]
    data.save_as(path)
    for one in make(folder, path, presentation_state=False):
        made = dcmread(io.BytesIO(one.content))
        for keyword in (
            *REQUIRED[one.kind],
            "PatientID",
            "PatientName",
            "StudyDate",
            "StudyID",
            "AccessionNumber",
        ):
            assert keyword in made
        assert made.SpecificCharacterSet == "ISO_IR 192"
        assert len(str(made.PatientID)) <= 64
        assert str(made.StudyDate) == day(str(made.StudyDate))


@given(TEXTS)
def test_a_cleaned_name_is_a_valid_one_and_stays_as_it_is(text):
    name = person_name(text)
    groups = name.split("=")
    assert len(groups) <= 3
    assert all(len(group) <= 64 and group.count("^") <= 4 for group in groups)
    assert "\\" not in name
    assert person_name(name) == name


@given(TEXTS)
def test_days_and_times_are_valid_or_nothing(text):
    assert day(text) == "" or (len(day(text)) == 8 and day(text).isascii() and day(text).isdigit())
    assert time_of_day(text) == "" or time_of_day(text)[:2] <= "23"
