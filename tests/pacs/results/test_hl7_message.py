import hashlib
import socket
import threading
from dataclasses import replace

import hl7
import readings
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.pacs.configuration import Hl7Destination
from freezeframe.pacs.delivery import mllp
from freezeframe.pacs.delivery.parcels import Parcel
from freezeframe.pacs.results.hl7_text import addressed, escape
from freezeframe.pacs.results.making import make_objects

DESTINATION = {"kind": "hl7", "name": "ris", "address": "127.0.0.1", "port": 2575}


def message(folder, probability=0.87, change=None, **settings) -> bytes:
    path = readings.phantom("CR", folder / "image.dcm", change)
    made = make_objects(
        readings.study_reading([path], probability),
        readings.sources([path]),
        {},
        readings.configuration(
            folder, structured_report=False, secondary_capture=False, destinations=[DESTINATION], **settings
        ),
        readings.NOW,
    )
    assert [one.kind for one in made] == ["hl7"]
    return made[0].content


def parsed(content: bytes) -> hl7.Message:
    return hl7.parse(content.decode())


def observations(content: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for segment in parsed(content).segments("OBX"):
        found.setdefault(str(segment[3][0][0]), []).append(str(segment[5]))
    return found


def test_a_message_is_a_preliminary_result_of_version_2_5_1_in_utf_8(folder):
    read = parsed(message(folder))
    header = read.segment("MSH")
    assert str(header[9]) == "ORU^R01^ORU_R01"
    assert str(header[12]) == "2.5.1"
    assert str(header[18]) == "UNICODE UTF-8"
    assert str(read.segment("OBR")[25]) == "P"
    assert {str(segment[11]) for segment in read.segments("OBX")} == {"P"}
    assert [str(segment[0]) for segment in read][:4] == ["MSH", "PID", "OBR", "NTE"]
    assert str(read.segment("NTE")[3]) == "AI result, not verified"


def test_a_message_says_finding_probability_and_decision(folder):
    found = observations(message(folder))
    assert found["121071"] == ["233604007^Pneumonia^SCT"]
    assert found["111012"] == ["87.0000"]
    assert found["122411"] == ["42.0000"]
    assert found["121052"] == ["52101004^Present^SCT"]
    assert found["121077"] == ["Positive for pneumonia at the operating point."]
    assert len(found["121106"]) == 2


def test_a_negative_message_says_that_the_finding_is_absent(folder):
    found = observations(message(folder, 0.03))
    assert found["121052"] == ["272519000^Absent^SCT"]
    assert found["121077"] == ["Negative for pneumonia at the operating point."]


def test_a_message_of_a_refused_study_says_why_in_the_chosen_language(folder):
    found = observations(message(folder, None, language="es"))
    assert found["121077"] == ["El modelo no pudo leer este estudio. Esto no dice nada sobre el paciente."]
    assert found["121106"][0].endswith("its pixel data is truncated.")
    assert "111012" not in found


def test_the_patient_and_the_accession_number_are_those_of_the_image(folder):
    change = {
        "PatientID": "4711|~x", "IssuerOfPatientID": "HOSPITAL", "PatientName": "PHANTOM^ZERO^ONE^Dr^Jr",
        "PatientBirthDate": "19500131", "PatientSex": "F", "AccessionNumber": "A&1",
    }  # fmt: skip
    read = parsed(message(folder, change=change))
    patient = read.segment("PID")
    assert str(patient[3]) == r"4711\F\\R\x^^^HOSPITAL"
    assert read.unescape(str(patient[3][0][0])) == "4711|~x"
    assert str(patient[5]) == "PHANTOM^ZERO^ONE^Jr^Dr^^L^A"
    assert (str(patient[7]), str(patient[8])) == ("19500131", "F")
    assert read.unescape(str(read.segment("OBR")[3])) == "A&1"
    assert read.unescape(str(read.segment("OBR")[18])) == "A&1"


def test_a_name_in_three_scripts_is_three_repetitions(folder):
    change = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"}
    name = parsed(message(folder, change=change)).segment("PID")[5]
    assert [str(one) for one in name] == [
        "Yamada^Tarou^^^^^L^A", "山田^太郎^^^^^L^I", "やまだ^たろう^^^^^L^P",
    ]  # fmt: skip


def test_a_patient_of_whom_nothing_is_known_leaves_a_valid_message(folder):
    names = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate")
    read = parsed(message(folder, change=dict.fromkeys(names)))
    assert str(read.segment("PID")[8]) == "U"
    assert str(read.segment("OBR")[3]).replace(".", "").isdigit()


def test_a_retry_has_the_same_control_id_and_another_version_has_another(folder):
    path = readings.phantom("CR", folder / "image.dcm")
    reading = readings.study_reading([path], 0.87)
    settings = readings.configuration(folder, destinations=[DESTINATION])
    ids = [
        str(
            parsed(
                make_objects(one, readings.sources([path]), {}, settings, readings.NOW)[-1].content
            ).segment("MSH")[10]
        )
        for one in (reading, reading, replace(reading, version=2))
    ]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 20


def test_a_message_can_be_addressed_to_each_of_its_receivers(folder):
    content = message(folder)
    header = parsed(addressed(content, "RIS|1", "Hospital Ñ")).segment("MSH")
    assert (str(header[5]), str(header[6])) == (r"RIS\F\1", "Hospital Ñ")
    assert addressed(content, "", "") == content


@given(st.text())
def test_escaped_text_divides_nothing_and_comes_back(text):
    written = escape(text)
    assert not set(written) & set("|^&~\r\n")
    read = hl7.parse("MSH|^~\\&|A\rNTE|1||" + written + "\r")
    expected = "".join(sign if sign.isprintable() else " " for sign in text)
    assert (
        read.unescape(str(read.segment("NTE")[3])).strip() == expected.strip()
    )  # the parser strips the line


def test_each_receiver_gets_the_message_addressed_to_it(folder):
    content = message(folder)
    path = folder / "message.hl7"
    path.write_bytes(content)
    received: list[bytes] = []

    def receive() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            received.append(mllp.read_frame(connection))
            control_id = mllp.control_id(received[0]).decode()
            answer = f"MSH|^~\\&|RIS||FREEZEFRAME||||ACK|1|P|2.5.1\rMSA|AA|{control_id}\r"
            connection.sendall(mllp.START + answer.encode() + mllp.END)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        receiver = threading.Thread(target=receive)
        receiver.start()
        destination = Hl7Destination(
            **{**DESTINATION, "port": listener.getsockname()[1], "application": "RIS", "facility": "Hospital"}
        )
        parcel = Parcel(1, "1.2.3", "hl7", "", "", path, hashlib.sha256(content).hexdigest(), False)
        (answer,) = mllp.send(destination, [parcel])
        receiver.join(60)
    assert answer.stored
    header = parsed(received[0]).segment("MSH")
    assert (str(header[5]), str(header[6])) == ("RIS", "Hospital")
