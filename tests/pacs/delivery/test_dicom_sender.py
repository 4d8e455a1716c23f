"""C-STORE to devices that answer in all ways."""

import socket

import pytest
from delivering import deliver_due
from outgoing import CLASSES, NOW, deliveries, dicom, node_of, object_uid, read_study, states
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian
from storage_peer import storage_peer

from freezeframe.pacs.delivery import dicom_sender
from freezeframe.pacs.delivery.claims import LEASE_SECONDS


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0x0000, ""),
        (0xB000, "stored with warning 0xB000"),
        (0xB007, "stored with warning 0xB007"),
        (0x0111, "it was there already"),
    ],
)
def test_these_statuses_mean_that_it_is_stored(sqlite, tmp_path, status, reason):
    with storage_peer(lambda uid: status) as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        read_study(sqlite, node, 1, kinds=["sr"])
        assert deliver_due(sqlite, node, NOW) == 1
        assert [(entry.state, entry.reason) for entry in deliveries(sqlite)] == [("done", reason)]


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122])
def test_an_object_that_will_never_be_taken_waits_the_longest(sqlite, tmp_path, status):
    with storage_peer(lambda uid: status) as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        read_study(sqlite, node, 1, kinds=["sr"])
        assert deliver_due(sqlite, node, NOW) == 0
        (delivery,) = deliveries(sqlite)
        assert (delivery.state, delivery.reason) == ("waiting", f"C-STORE status 0x{status:04X}")
        assert delivery.not_before == pytest.approx(NOW + 1000, abs=30)


def test_a_destination_without_room_is_left_alone_as_a_whole(sqlite, tmp_path):
    with storage_peer(lambda uid: 0xA700) as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        for number in range(1, 4):
            read_study(sqlite, node, number)
        assert deliver_due(sqlite, node, NOW) == 0
        assert len(peer.tried) == 1
        assert sum(entry.attempts for entry in deliveries(sqlite)) == 1
        peer.behaviour = lambda uid: 0
        assert deliver_due(sqlite, node, NOW + 20) == 6


def test_a_device_that_knows_only_implicit_vr_gets_the_same_elements(sqlite, tmp_path):
    with storage_peer(syntaxes=[ImplicitVRLittleEndian]) as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        study_uid = read_study(sqlite, node, 1, kinds=["sc"])
        assert deliver_due(sqlite, node, NOW) == 1
        made = dcmread(node.folder / "results" / study_uid / "1-default" / "sc.dat")
        (tmp_path / "received").write_bytes(peer.stored[0][1])
        received = dcmread(tmp_path / "received", force=True)
        for found in (made, received):
            found.remove_private_tags()  # they lose their VR in an implicit encoding
        assert received == made


def test_a_kind_that_a_device_does_not_take_is_named_and_the_others_are_sent(sqlite, tmp_path, monkeypatch):
    monkeypatch.delitem(CLASSES, "gsps")
    with storage_peer() as peer:
        monkeypatch.setitem(CLASSES, "gsps", "1.2.840.10008.5.1.4.1.1.11.1")
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        read_study(sqlite, node, 1, kinds=["gsps", "sr"])
        assert deliver_due(sqlite, node, NOW) == 1
        assert states(sqlite) == ["waiting", "done"]
        assert deliveries(sqlite)[0].reason == "it takes no objects of SOP class 1.2.840.10008.5.1.4.1.1.11.1"


def test_a_device_that_falls_silent_over_an_object_is_given_up(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_sender, "ANSWER_SECONDS", 0.5)
    with storage_peer(lambda uid: "silent") as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        study_uid = read_study(sqlite, node, 1, kinds=["sr"])
        assert deliver_due(sqlite, node, NOW) == 0
        peer.behaviour = lambda uid: 0
        assert deliver_due(sqlite, node, NOW + 60) == 1
        assert peer.uids == [object_uid(study_uid, 1, "sr")]


def test_a_device_that_accepts_connections_and_says_nothing_is_given_up(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_sender, "ASSOCIATE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = node_of(tmp_path, [dicom("pacs", silent.getsockname()[1])])
        read_study(sqlite, node, 1)
        assert deliver_due(sqlite, node, NOW) == 0
        assert deliveries(sqlite)[0].reason.startswith("no association")


def test_a_rejected_association_says_why(sqlite, tmp_path):
    with storage_peer() as peer:
        peer._server.ae.require_called_aet = True
        node = node_of(tmp_path, [dicom("pacs", peer.port, "OTHER")])
        read_study(sqlite, node, 1)
        assert deliver_due(sqlite, node, NOW) == 0
        reason = deliveries(sqlite)[0].reason
        assert reason == "it rejects the association (source 1, reason 7 of PS3.8, table 9-21)"


def test_a_host_that_is_not_known_is_a_destination_that_is_down(sqlite, tmp_path):
    unknown = dicom("pacs", 104) | {"address": "no-such-host.invalid"}
    node = node_of(tmp_path, [unknown])
    read_study(sqlite, node, 1)
    assert deliver_due(sqlite, node, NOW) == 0
    assert deliveries(sqlite)[0].reason == "its address can't be resolved (gaierror)"


def test_certificates_that_are_missing_are_a_reason_that_names_the_file(sqlite, tmp_path):
    missing = {"certificate": str(tmp_path / "none.crt"), "key": str(tmp_path / "none.key")}
    node = node_of(tmp_path, [dicom("pacs", 104, tls=missing)])
    read_study(sqlite, node, 1)
    assert deliver_due(sqlite, node, NOW) == 0
    assert "none.crt can't be read" in deliveries(sqlite)[0].reason


def test_a_delivery_is_held_for_longer_than_any_answer_may_take():
    longest = dicom_sender.CONNECT_SECONDS + dicom_sender.ASSOCIATE_SECONDS + dicom_sender.ANSWER_SECONDS
    assert longest < LEASE_SECONDS * 4 / 5


def test_a_device_that_stops_reading_within_an_object_is_given_up(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_sender, "ANSWER_SECONDS", 1.0)
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        # Larger than all buffers on the way.
        read_study(sqlite, node, 1, kinds=["sc"], padding=40_000_000)
        peer.stops_reading = True
        assert deliver_due(sqlite, node, NOW) == 0
        assert deliveries(sqlite)[0].reason == (
            "it ended the association, or fell silent, while an object was sent"
        )
        peer.stop.set()
        peer.stops_reading = False
        assert deliver_due(sqlite, node, NOW + 60) == 1
