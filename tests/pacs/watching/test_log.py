import json
import logging
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.watching import log
from freezeframe.pacs.watching.privacy import cleaned_text

NAME, NUMBER = "PHANTOM^0001", "P-4711-0815"


@pytest.fixture
def lines(tmp_path):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    path = log.set_up(tmp_path)
    yield lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for handler in [handler for handler in root.handlers if handler not in before[1]]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[0])
    logging.captureWarnings(capture=False)


def a_header() -> Dataset:
    header = Dataset()
    header.PatientName, header.PatientID, header.Modality = NAME, NUMBER, "DX"
    return header


def test_a_record_is_a_json_line_with_its_fields(lines):
    logging.getLogger("freezeframe.pacs.intake").info(
        "An image was kept.", extra={"study_uid": "1.2", "job": 3}
    )
    (line,) = lines()
    assert (line["level"], line["logger"]) == ("info", "freezeframe.pacs.intake")
    assert (line["message"], line["study_uid"], line["job"]) == ("An image was kept.", "1.2", 3)


def test_fields_with_a_patients_data_are_left_out(lines):
    logging.getLogger("any").warning(
        "Odd.", extra={"patient_id": NUMBER, "AccessionNumber": "A1", "peer": "pacs"}
    )
    (line,) = lines()
    assert set(line) == {"time", "level", "logger", "message", "peer"}


@pytest.mark.parametrize("value", [a_header(), a_header()["PatientName"], PersonName(NAME), NAME.encode()])
def test_data_sets_names_and_bytes_are_only_named_as_such(lines, value, tmp_path):
    logging.getLogger("any").warning("Got %s", value, extra={"thing": value, "things": [value]})
    text = (tmp_path / "log" / "node.jsonl").read_text()
    assert "Got [" in text
    assert NAME not in text
    assert NUMBER not in text


def test_a_printed_data_set_in_a_message_is_taken_out(lines, tmp_path):
    logging.getLogger("dicomweb_client.web").error(f"Exception raised for\n{a_header()}")
    assert "(0010,0020) [removed]" in lines()[0]["message"]
    assert NUMBER not in (tmp_path / "log" / "node.jsonl").read_text()


def test_an_exceptions_text_is_left_out_but_its_place_is_said(lines, tmp_path):
    try:
        raise ValueError(f"bad value {NUMBER} of {NAME}")
    except ValueError:
        logging.getLogger("any").exception("A job failed.")
    (line,) = lines()
    assert line["exception"].startswith("ValueError at test_log.py:")
    assert NUMBER not in (tmp_path / "log" / "node.jsonl").read_text()


def test_the_text_of_our_own_errors_is_kept(lines):
    try:
        raise FreezeframeError("The disk is full.")
    except FreezeframeError:
        logging.getLogger("any").exception("An image was not kept.")
    assert "FreezeframeError: The disk is full. at" in lines()[0]["exception"]


@pytest.mark.parametrize("address", ["/studies", "https://pacs.test/dicom-web/studies", "/"])
def test_queries_are_cut_off_every_address(address):
    assert (
        cleaned_text(f"GET {address}?00100020=17&limit=3 took long") == f"GET {address}?[removed] took long"
    )


def test_queries_are_cut_off_addresses(lines):
    logging.getLogger("any").warning('GET "/dicom-web/studies?00100020=%s&limit=3" 200', NUMBER)
    assert lines()[0]["message"] == 'GET "/dicom-web/studies?[removed]" 200'


def test_the_chatter_of_libraries_is_silent(lines):
    for name in ("pynetdicom.acse", "httpx", "uvicorn.access", "sqlalchemy.engine"):
        logging.getLogger(name).info("Request to %s", NUMBER)
    assert lines() == []


def test_people_read_the_same_on_standard_error(lines, capsys):
    handler = next(
        handler for handler in logging.getLogger().handlers if isinstance(handler.formatter, log.ForPeople)
    )
    handler.stream = sys.stderr
    logging.getLogger("any").warning("A destination is down.", extra={"destination": "pacs"})
    assert capsys.readouterr().err.endswith("warning A destination is down. (destination=pacs)\n")


def test_only_the_owner_may_read_the_folder(lines, tmp_path):
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0


def test_a_full_file_begins_anew_and_old_ones_go(lines, tmp_path, monkeypatch):
    file = next(handler for handler in logging.getLogger().handlers if hasattr(handler, "maxBytes"))
    file.maxBytes, file.backupCount = 2000, 2
    for number in range(200):
        logging.getLogger("any").warning("Line %d", number)
    files = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert files == ["node.jsonl", "node.jsonl.1", "node.jsonl.2"]
    assert lines()[-1]["message"] == "Line 199"


def test_a_long_text_is_cut_and_takes_no_time():
    begun = time.monotonic()
    assert len(cleaned_text("ab cd " * 200_000 + "^")) < 5000
    assert time.monotonic() - begun < 5


KEYWORDS = ["PatientName", "PatientID", "PatientAddress", "AccessionNumber", "ReferringPhysicianName"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KEYWORDS), st.text("abcdefgh XYZ0123456789", min_size=3).filter(str.strip))
def test_no_value_of_a_printed_attribute_survives(keyword, value):
    header = Dataset()
    setattr(header, keyword, f"qq{value.strip()}qq")
    assert "qq" not in cleaned_text(f"Failed on\n{header}\nin the end")
    assert "qq" not in cleaned_text(f"{keyword}=qq{value.strip()}qq")
