import io
import re
import subprocess
from copy import deepcopy
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from freezeframe.data.phantom import make_hospital
from freezeframe.errors import UserError
from freezeframe.pacs.deidentify import IDENTITY, Deidentified, NotCleanError, deidentify, patient_identity
from freezeframe.pacs.deidentify_regions import BurnedInError, Stations
from freezeframe.pacs.deidentify_salt import Pseudonyms, read_salt

PSEUDONYMS = Pseudonyms(b"s" * 32)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("hospital")
    make_hospital(folder, 2, 0)
    return pydicom.dcmread(sorted(folder.rglob("*.dcm"))[0])


@pytest.fixture
def original(film) -> Dataset:
    dataset = deepcopy(film)
    dataset.PatientName, dataset.PatientID = "PHANTOM^SUBJECT", "HOSP-4711"
    dataset.PatientBirthDate, dataset.AccessionNumber = "19610203", "ACC-99120"
    dataset.StudyDate, dataset.StudyTime = "20260105", "093011"
    dataset.InstitutionName = "Phantom Clinic"
    return dataset


def again(result: Deidentified) -> Dataset:
    return pydicom.dcmread(io.BytesIO(result.content))


def clean(dataset: Dataset, **more) -> Dataset:
    return again(deidentify(dataset, PSEUDONYMS, **more))


def stations(**more) -> Stations:
    return Stations.model_validate({"stations": [{"name": "one", **more}]})


def a_value(vr: str):
    """A value of each kind that is recognised when it comes back."""
    return {
        "DA": "20260105", "DT": "20260105093011", "TM": "093011", "AS": "042Y", "UI": "1.2.3.4711",
        "SQ": Sequence([Dataset()]), "OB": b"SECRETSECRET", "OW": b"SECRETSECRET", "UN": b"SECRETSECRET",
        "PN": "SECRET^SECRET", "DS": "4711.5", "IS": "4711", "FD": 4711.5, "FL": 4711.5, "UR": "http://secret.test",
        "US": 4711, "SS": 4711, "UL": 4711, "SL": 4711, "UC": "SECRET", "UT": "SECRET", "LT": "SECRET", "ST": "SECRET",
    }.get(vr, "SECRET")  # fmt: skip


TAGS = sorted(tag for tag in table.ALL_TAGS if len(tag) == 2 and tag[0] != 2 and keyword_for_tag(tag))


@pytest.mark.parametrize("nested", [False, True])
def test_every_attribute_of_the_table_is_gone_or_another(original, nested):
    holder = original
    if nested:  # in sequences that the profile keeps
        holder, outer = Dataset(), Dataset()
        outer.AnatomicRegionModifierSequence = [holder]
        original.AnatomicRegionSequence = [outer]
    before = {}
    for tag in map(Tag, TAGS):
        vr = dictionary_VR(tag).split(" or ")[0]
        value = a_value(vr)
        if vr == "SQ":
            value[0].add_new("TextValue", "UT", "SECRET")
        holder.add_new(tag, vr, value)
        before[keyword_for_tag(tag)] = str(holder[tag].value)
    result = deidentify(original, PSEUDONYMS)
    after = again(result)
    where = after.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0] if nested else after
    left = {keyword for keyword, value in before.items() if str(where.get(keyword)) == value}
    assert left == set()
    assert b"SECRET" not in result.content
    assert len(before) > 600


def test_private_unknown_curve_and_overlay_elements_go_at_every_depth(original):
    def plant(dataset: Dataset) -> None:
        dataset.private_block(0x0029, "PHANTOM WORKS", create=True).add_new(1, "LO", "SECRET")
        dataset.add_new((0x0018, 0x0FFE), "LO", "SECRET")
        dataset.add_new((0x5000, 0x2500), "LO", "SECRET")
        dataset.add_new((0x6002, 0x1500), "LO", "SECRET")
        dataset.add_new((0x0018, 0x9999), "UN", b"SECRET")

    plant(original)
    original.AnatomicRegionSequence = [Dataset()]
    plant(original.AnatomicRegionSequence[0])
    result = deidentify(original, PSEUDONYMS)
    assert b"SECRET" not in result.content
    assert not [element for element in again(result).iterall() if element.tag.is_private]


def test_the_method_is_written_down(original):
    result = clean(original)
    assert result.PatientIdentityRemoved == "YES"
    codes = [item.CodeValue for item in result.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]
    assert result.LongitudinalTemporalInformationModified == "MODIFIED"
    assert len(result.DeidentificationMethod) <= 64


def test_pixels_and_what_a_model_needs_stay(original):
    result = clean(original)
    assert np.array_equal(result.pixel_array, original.pixel_array)
    for keyword in (
        "Modality",
        "BodyPartExamined",
        "ViewPosition",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
    ):
        assert result.get(keyword) == original.get(keyword)


def test_the_same_patient_gets_the_same_pseudonym_and_another_one_another(original):
    other = deepcopy(original)
    other.StudyInstanceUID, other.SOPInstanceUID = generate_uid(), generate_uid()
    first, second = deidentify(original, PSEUDONYMS), deidentify(other, PSEUDONYMS)
    assert first.patient == second.patient
    assert first.study_uid != second.study_uid
    other.PatientID = "HOSP-4712"
    assert deidentify(other, PSEUDONYMS).patient != first.patient
    assert deidentify(original, Pseudonyms(b"t" * 32)).patient != first.patient


def test_the_same_image_gives_the_same_bytes(original):
    assert deidentify(original, PSEUDONYMS).content == deidentify(original, PSEUDONYMS).content


def test_patients_without_a_number_are_told_apart_by_name_and_birth_date_or_by_study(original):
    original.PatientID = ""
    named = patient_identity(original)
    original.PatientBirthDate = ""
    assert patient_identity(original) != named
    assert str(original.StudyInstanceUID) in patient_identity(original)


def test_references_between_images_stay_references(original):
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = original.SOPClassUID, "1.2.3.77"
    original.SourceImageSequence = [reference]
    source = deepcopy(original)
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = "1.2.3.77"
    result = clean(original)
    assert result.SourceImageSequence[0].ReferencedSOPInstanceUID == clean(source).SOPInstanceUID
    assert result.SourceImageSequence[0].ReferencedSOPClassUID == original.SOPClassUID
    assert result.file_meta.MediaStorageSOPInstanceUID == result.SOPInstanceUID


def test_days_between_two_studies_of_a_patient_stay(original):
    later = deepcopy(original)
    later.StudyDate, later.SOPInstanceUID = "20260304", generate_uid()

    def day(dataset: Dataset) -> date:
        value = str(clean(dataset).StudyDate)
        return date(int(value[:4]), int(value[4:6]), int(value[6:]))

    assert (day(later) - day(original)).days == (date(2026, 3, 4) - date(2026, 1, 5)).days
    assert day(original) < date(2026, 1, 5)
    assert not clean(original).StudyTime


def test_dates_are_removed_where_that_is_asked_for(original):
    original.AcquisitionDate = "20260105"
    result = clean(original, dates="remove")
    assert not result.StudyDate
    assert not result.get("AcquisitionDate")
    assert result.LongitudinalTemporalInformationModified == "REMOVED"


def test_a_name_that_was_copied_into_a_free_text_goes_too(original):
    original.Manufacturer = "made for Phantom^Subject"
    original.CountsSource = "EMISSION"
    assert not clean(original).Manufacturer


@pytest.mark.parametrize("written", ["Ph An", "AN PH", "ph, an"])
def test_a_name_whose_parts_are_short_goes_as_people_write_it(original, written):
    original.PatientName = "PH^AN^X"
    original.DetectorDescription = f"as of {written}"
    original.ViewCodeSequence = [Dataset()]
    original.ViewCodeSequence[0].CodeMeaning = f"{written} standing"
    found = clean(original)
    assert not found.DetectorDescription
    assert not found.ViewCodeSequence[0].CodeMeaning


def test_what_an_earlier_deidentification_encrypted_goes(original):
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID, item.EncryptedContent = "1.2.840.10008.1.2", b"sealed names"
    original.EncryptedAttributesSequence = [item]
    assert b"sealed names" not in deidentify(original, PSEUDONYMS).content


def test_a_number_that_can_not_be_taken_out_keeps_the_image_in(original):
    original.ImageType = ["ORIGINAL", "PRIMARY", "HOSP-4711"]
    with pytest.raises(NotCleanError):
        deidentify(original, PSEUDONYMS)


def test_a_name_in_the_bytes_of_the_pixels_keeps_the_image_in(original):
    original.BitsStored, original.HighBit = 16, 15  # so that no bits are cleared
    pixels = bytearray(original.PixelData)
    pixels[1000:1009] = b"HOSP-4711"
    original.PixelData = bytes(pixels)
    with pytest.raises(NotCleanError):
        deidentify(original, PSEUDONYMS)


def test_short_words_that_pixels_hold_by_chance_are_no_reason_to_leave_an_image_out(original):
    original.PatientName = "ABCD^EFG"
    original.BitsStored, original.HighBit = 16, 15
    pixels = bytearray(len(original.PixelData))  # black from the first pixel on, as the preamble is
    pixels[1000:1006] = b" ABCD "
    original.PixelData = bytes(pixels)
    assert np.array_equal(clean(original).pixel_array, original.pixel_array)


def test_an_object_without_pixels_is_no_image(original):
    del original.PixelData
    with pytest.raises(NotCleanError, match="no pixels"):
        deidentify(original, PSEUDONYMS)


TEXT = st.text("abcdefghijklmnopqrstuvwxyz0123456789 -'äéñ", min_size=6, max_size=16).map(str.strip)
VALUES = TEXT.filter(lambda text: len(text) >= 6 and not text.isdigit()).map(lambda text: f"zq{text}")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(IDENTITY), VALUES, min_size=1),
    st.sampled_from(["Manufacturer", "KVP", ""]),
)
def test_no_value_of_a_patients_attribute_is_anywhere_in_the_result(film, values, copied):
    original = deepcopy(film)
    original.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in values.items():
        if dictionary_VR(keyword) != "DA":
            setattr(original, keyword, value)
    if copied == "Manufacturer":
        original.Manufacturer = " ".join(values.values())[:64]
    original.AnatomicRegionSequence = [Dataset()]
    original.AnatomicRegionSequence[0].CodeMeaning = next(iter(values.values()))
    with np.errstate(all="ignore"):
        content = deidentify(original, PSEUDONYMS).content.lower()
    for keyword, value in values.items():
        if dictionary_VR(keyword) != "DA":
            assert value.lower().encode() not in content


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_rectangles_of_a_known_station_are_black_and_all_else_is_as_it_was(original, syntax, photometric):
    original.PhotometricInterpretation = photometric
    original.BurnedInAnnotation = "YES"
    before = original.pixel_array.copy()
    if syntax is not None:
        original.compress(syntax, generate_instance_uid=False)
    rule = stations(Manufacturer=".*", rows=original.Rows, blank=[[10, 20, 60, 40], [-30, -10, 0, 0]])
    result = clean(original, stations=rule)
    expected = before.copy()
    black = (1 << original.BitsStored) - 1 if photometric == "MONOCHROME1" else 0
    expected[20:40, 10:60] = expected[-10:, -30:] = black
    assert np.array_equal(result.pixel_array, expected)
    assert result.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in result.DeidentificationMethodCodeSequence]


def test_colour_images_are_blanked_too(original):
    pixels = np.full((50, 40, 3), 200, np.uint8)
    original.set_pixel_data(pixels, "RGB", 8, generate_instance_uid=False)
    result = clean(original, stations=stations(blank=[[0, 0, 40, 10]])).pixel_array
    assert result[:10].max() == 0
    assert result[10:].min() == 200


def with_an_overlay_in(bits: int, original: Dataset, signed: bool) -> np.ndarray:
    """Give an image values of 12 bits, left and right of zero where signed, and a name in other bits; the values."""
    rows, columns = 20, 30
    values = np.arange(rows * columns).reshape(rows, columns) * 6
    values = (values - 2048 if signed else values).astype(np.int16 if signed else np.uint16)
    drawn = np.zeros((rows, columns), np.uint16)
    drawn[5:9, 3:20] = 1 << bits
    original.set_pixel_data(values, "MONOCHROME2", 12, generate_instance_uid=False)
    original.PixelData = (values.view(np.uint16) & 0x0FFF | drawn).tobytes()
    original[0x6000, 0x0102] = pydicom.DataElement(0x60000102, "US", bits)
    return values


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [12, 15])
def test_an_overlay_in_unused_bits_goes_and_the_values_stay(original, bits, signed):
    values = with_an_overlay_in(bits, original, signed)
    stored = np.frombuffer(clean(original).PixelData, np.int16 if signed else np.uint16)
    assert np.array_equal(stored, values.ravel())


def test_values_that_stand_in_the_upper_bits_stay(original):
    values = with_an_overlay_in(12, original, signed=False) << 4
    original.HighBit, original.PixelData = 15, (values | 0b1001).tobytes()
    assert clean(original).PixelData == values.tobytes()


def test_an_image_without_unused_bits_stays_byte_for_byte(original):
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    original.set_pixel_data(pixels, "MONOCHROME2", 16, generate_instance_uid=False)
    assert clean(original).PixelData == pixels.tobytes()


def test_an_overlay_in_compressed_pixels_keeps_the_image_in(original):
    with_an_overlay_in(12, original, signed=False)
    original.compress(RLELossless, generate_instance_uid=False)
    with pytest.raises(BurnedInError, match="overlay"):
        deidentify(original, PSEUDONYMS)


def test_an_overlay_in_bits_that_are_the_images_keeps_it_in(original):
    with_an_overlay_in(12, original, signed=False)
    original.BitsStored, original.HighBit = 16, 15
    with pytest.raises(BurnedInError, match="overlay"):
        deidentify(original, PSEUDONYMS)


def test_burned_in_text_of_an_unknown_station_keeps_the_image_in(original):
    original.BurnedInAnnotation = "YES"
    with pytest.raises(BurnedInError):
        deidentify(original, PSEUDONYMS, stations(Manufacturer="another", blank=[]))


def test_a_capture_that_says_nothing_keeps_the_image_in(original):
    original.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    del original.BurnedInAnnotation
    with pytest.raises(BurnedInError):
        deidentify(original, PSEUDONYMS)
    original.BurnedInAnnotation = "NO"
    deidentify(original, PSEUDONYMS)


def test_a_rectangle_outside_of_the_image_is_no_reason_to_let_it_go(original):
    with pytest.raises(BurnedInError, match="outside"):
        deidentify(original, PSEUDONYMS, stations(blank=[[99_000, 0, 99_010, 10]]))


def test_a_table_of_stations_with_a_mistake_is_refused(tmp_path):
    path = tmp_path / "stations.yaml"
    path.write_text("stations:\n- {name: one, StationName: '(', blank: [[1, 2, 3]]}\n")
    with pytest.raises(UserError, match=r"StationName.*blank"):
        Stations.read(path)


def test_the_salt_is_made_once_and_only_for_its_owner(tmp_path):
    path = tmp_path / "salt"
    first = read_salt(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_salt(path) == first
    assert read_salt(tmp_path / "other") != first
    path.chmod(0o640)
    with pytest.raises(UserError, match="Others may read"):
        read_salt(path)


def test_the_salt_is_not_shown():
    assert "ssss" not in repr(PSEUDONYMS)


def errors(path: Path) -> set[str]:
    answer = subprocess.run(
        ["/usr/bin/dciodvfy", path], capture_output=True, text=True, timeout=60, check=False
    )
    lines = (answer.stdout + answer.stderr).splitlines()
    return {re.sub(r"<[0-9.]+>", "<UID>", line) for line in lines if line.startswith("Error")}


@pytest.mark.parametrize("dates", ["shift", "remove"])
def test_the_validator_finds_no_error_that_the_original_has_not(film, tmp_path, dates):
    film.save_as(tmp_path / "before.dcm")
    (tmp_path / "after.dcm").write_bytes(deidentify(film, PSEUDONYMS, dates=dates).content)
    assert errors(tmp_path / "after.dcm") <= errors(tmp_path / "before.dcm")


def test_real_images_come_through_without_new_errors(shared_data, tmp_path):
    found = sorted((shared_data / "dicom" / "chest_cr").rglob("*.dcm"))
    images = {path: pydicom.dcmread(path) for path in found if pydicom.misc.is_dicom(path)}
    images = {path: image for path, image in images.items() if "PixelData" in image}
    assert len(images) >= 5
    for path, image in images.items():
        result = deidentify(image, PSEUDONYMS, stations(blank=[]))
        (tmp_path / "after.dcm").write_bytes(result.content)
        assert errors(tmp_path / "after.dcm") <= errors(path), path.name
