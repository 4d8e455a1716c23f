import io
from dataclasses import replace

import pytest
import readings
from pydicom import dcmread
from pydicom.dataset import Dataset

from freezeframe.pacs import uids
from freezeframe.pacs.results.making import NoSourceError, make_objects


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


def test_the_same_reading_and_time_give_the_same_bytes(folder, radiographs, heat_maps):
    first = readings.make(folder, radiographs["DX"], heat_maps=heat_maps)
    second = readings.make(folder, radiographs["DX"], heat_maps=heat_maps)
    assert [one.content for one in first] == [one.content for one in second]


def test_another_version_or_bundle_has_other_uids_and_another_series(folder, radiographs):
    path = radiographs["DX"]
    reading = readings.study_reading([path], 0.87)
    others = [
        reading,
        replace(reading, version=2),
        replace(reading, model=replace(reading.model, sha256="ab" * 32)),
        # The same bundle under another name of the configuration, which may read other images of the study.
        replace(reading, model=replace(reading.model, configured_as="second")),
    ]
    made = [
        make_objects(one, readings.sources([path]), {}, readings.configuration(folder), readings.NOW)
        for one in others
    ]
    data = [dcmread(io.BytesIO(one.content)) for objects in made for one in objects]
    assert len({one.SOPInstanceUID for one in data}) == len({one.SeriesInstanceUID for one in data}) == 8
    assert {one.StudyInstanceUID for one in data} == {reading.study_uid}


def test_the_uids_of_a_made_object_are_those_inside_it(folder, radiographs):
    for one in readings.make(folder, radiographs["DX"]):
        data = dcmread(io.BytesIO(one.content))
        assert (one.sop_class_uid, one.sop_instance_uid) == (data.SOPClassUID, data.SOPInstanceUID)
        assert uids.checked(one.sop_instance_uid) == one.sop_instance_uid
        assert one.content[128:132] == b"DICM"


def test_a_report_says_finding_probability_threshold_members_and_algorithm(folder, radiographs):
    report = readings.parsed(readings.make(folder, radiographs["DX"]), "sr")
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
    english = values(readings.parsed(readings.make(folder, radiographs["DX"]), "sr"), "121106")
    spanish = values(readings.parsed(readings.make(folder, radiographs["DX"], language="es"), "sr"), "121106")
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
        report = readings.parsed(readings.make(folder, path, outcome), "sr")
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
        for item in items(readings.parsed(made, "sr"))
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeValue == "121071"
    )
    assert (finding.CodingSchemeDesignator, finding.CodeValue, finding.CodeMeaning) == (
        "99FREEZEFRAME", "class-ad9a0b2edd", "opacity",
    )  # fmt: skip
    assert readings.errors(folder, made) == {}


def test_a_study_without_operating_point_reports_the_class_that_was_decided_on(folder, radiographs):
    path = radiographs["DX"]
    reading = readings.study_reading([path], 0.87)
    model = replace(reading.model, positive_class=None, operating_point=None, threshold=None)
    made = make_objects(
        replace(reading, model=model, probability=None),
        readings.sources([path]), {}, readings.configuration(folder, presentation_state=True), readings.NOW,
    )  # fmt: skip
    assert readings.errors(folder, made) == {}
    assert values(readings.parsed(made, "sr"), "121071") == ["Pneumonia"]


def test_a_report_of_a_study_that_could_not_be_read_says_why(folder, radiographs):
    sentences = values(readings.parsed(readings.make(folder, radiographs["DX"], "refused"), "sr"), "121106")
    assert "says nothing about the patient" in sentences[1]
    assert sentences[2].endswith("could not be read: its pixel data is truncated.")


def test_a_study_without_any_size_of_its_images_is_reported_all_the_same(folder):
    path = readings.phantom("CR", folder / "sizeless.dcm")
    reading, sources = readings.study_reading([path], None), readings.sources([path])
    data = dcmread(path)
    del data.Rows, data.Columns
    data.save_as(path)
    made = make_objects(reading, sources, {}, readings.configuration(folder), readings.NOW)
    assert readings.errors(folder, made) == {}


def test_every_image_of_a_study_has_its_own_group_and_capture(folder):
    paths = [
        readings.phantom("CR", folder / f"image-{number}.dcm", {"SOPInstanceUID": f"1.2.3.{number + 1}"})
        for number in range(10)
    ]
    reading = readings.study_reading(paths, 0.95)
    made = make_objects(reading, readings.sources(paths), {}, readings.configuration(folder), readings.NOW)
    assert [one.kind for one in made] == ["sr", "sc", "sc", "sc", "sc"]
    assert readings.errors(folder, made) == {}
    report = readings.parsed(made, "sr")
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
    references = [item for item in items(readings.parsed(made, "sr")) if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedFrameNumber for item in references] == [2]
    assert readings.errors(folder, made) == {}


def test_a_name_in_another_character_set_survives(folder):
    path = readings.phantom("CR", folder / "name.dcm", readings.JAPANESE_HEADER)
    for one in readings.make(folder, path):
        data = dcmread(io.BytesIO(one.content))
        assert data.SpecificCharacterSet == "ISO_IR 192"
        assert str(data.PatientName) == readings.JAPANESE


def test_a_side_is_said_of_a_part_that_has_two_and_never_in_a_report(folder, radiographs):
    knee = readings.make(folder, readings.phantom("CR", folder / "knee.dcm", readings.KNEE_HEADER))
    for kind in ("sc", "gsps"):
        data = readings.parsed(knee, kind)
        assert (data.BodyPartExamined, data.Laterality) == ("KNEE", "L")
    assert "Laterality" not in readings.parsed(knee, "sr")
    assert "BodyPartExamined" not in readings.parsed(knee, "sr")
    assert "Laterality" not in readings.parsed(readings.make(folder, radiographs["CR"]), "sc")


def test_objects_are_dated_in_the_time_zone_of_the_images(folder):
    path = readings.phantom("CR", folder / "zone.dcm", readings.KNEE_HEADER)
    report = readings.parsed(readings.make(folder, path), "sr")
    assert (report.TimezoneOffsetFromUTC, report.ContentDate, report.ContentTime) == (
        "+0900",
        "20261118",
        "200640.250000",
    )


def test_the_series_description_has_model_and_version(folder, radiographs):
    for one in readings.make(folder, radiographs["DX"]):
        assert dcmread(io.BytesIO(one.content)).SeriesDescription == "AI pneumonia-three 0.1.0 (3f9a1c2b)"


def test_only_what_the_configuration_wants_is_made(folder, radiographs):
    path = radiographs["DX"]
    assert readings.make(folder, path, "negative", negative=False) == []
    assert readings.make(folder, path, "refused", refused=False) == []
    kinds = [
        one.kind for one in readings.make(folder, path, structured_report=False, presentation_state=False)
    ]
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
    made = readings.make(folder, path)
    assert [one.kind for one in made] == ["sr", "sc"]
    assert readings.errors(folder, made) == {}


def test_a_state_shows_the_outline_and_keeps_the_image_as_its_window_has_it(folder, radiographs):
    source = dcmread(radiographs["CR"], stop_before_pixels=True)
    state = readings.parsed(readings.make(folder, radiographs["CR"]), "gsps")
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
