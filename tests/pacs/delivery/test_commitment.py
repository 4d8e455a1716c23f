"""Storage commitment: on the same association, later, never, and refused. Orthanc's: test_delivery_to_orthanc."""

import pytest
from delivering import deliver_due
from outgoing import NOW, deliveries, dicom, node_of, object_uid, read_study, states, study_state
from storage_peer import storage_peer

from freezeframe.pacs.delivery.commitment import ANSWER_SECONDS, committed
from freezeframe.pacs.tables import DELIVERING, DONE


def test_a_result_over_the_same_association_counts_at_once(database, tmp_path):
    with storage_peer(commitment="same association") as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port, commitment=True)])
        study_uid = read_study(database, node, 1)
        assert deliver_due(database, node, NOW) == 2
        assert states(database) == ["done"] * 2
        assert study_state(database, study_uid) == DONE
        assert peer.associations == len(peer.asked) == 1


def test_a_result_may_come_much_later(database, tmp_path):
    with storage_peer(commitment="later") as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port, commitment=True)])
        study_uid = read_study(database, node, 1)
        deliver_due(database, node, NOW)
        assert states(database) == ["sent"] * 2
        assert study_state(database, study_uid) == DELIVERING
        ((transaction_uid, uids),) = peer.asked
        committed(database, node, transaction_uid, uids[:1], [], NOW + 100)
        assert states(database) == ["done", "sent"]
        committed(database, node, transaction_uid, uids, [], NOW + 200)
        assert study_state(database, study_uid) == DONE
        assert [entry.done_at for entry in deliveries(database)] == [NOW + 100, NOW + 200]


def test_what_is_not_committed_to_is_sent_again(sqlite, tmp_path):
    with storage_peer(commitment="later") as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port, commitment=True)])
        study_uid = read_study(sqlite, node, 1)
        deliver_due(sqlite, node, NOW)
        sr, sc = (object_uid(study_uid, 1, kind) for kind in ("sr", "sc"))
        committed(sqlite, node, peer.asked[0][0], [sc], [(sr, 0x0112)], NOW + 10)
        assert states(sqlite) == ["waiting", "done"]
        assert deliveries(sqlite)[0].reason == "storage commitment failed: 0x0112"
        assert deliver_due(sqlite, node, NOW + 30) == 1
        assert peer.uids == [sr, sc, sr]
        committed(sqlite, node, peer.asked[1][0], [sr], [], NOW + 40)
        assert study_state(sqlite, study_uid) == DONE


def test_what_is_not_answered_is_asked_again_and_not_sent_again(sqlite, tmp_path):
    with storage_peer(commitment="later") as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port, commitment=True)])
        read_study(sqlite, node, 1)
        deliver_due(sqlite, node, NOW)
        assert deliver_due(sqlite, node, NOW + ANSWER_SECONDS - 10) == 0
        deliver_due(sqlite, node, NOW + ANSWER_SECONDS + 30)
        assert len(peer.asked) == 2
        assert len(peer.stored) == 2
        assert {entry.reason for entry in deliveries(sqlite)} == {"no storage commitment came in time"}
        committed(sqlite, node, peer.asked[1][0], peer.asked[1][1], [], NOW + 400)
        assert states(sqlite) == ["done"] * 2


@pytest.mark.parametrize(
    ("commitment", "reason"),
    [("none", "it offers no storage commitment"), ("refuse", "N-ACTION status 0x0110")],
)
def test_a_destination_that_does_not_commit_is_said_to_be_so_and_never_taken_for_done(
    sqlite, tmp_path, commitment, reason
):
    with storage_peer(commitment=commitment) as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port, commitment=True)])
        read_study(sqlite, node, 1)
        deliver_due(sqlite, node, NOW)
        deliver_due(sqlite, node, NOW + 1000)
        assert [(entry.state, entry.reason) for entry in deliveries(sqlite)] == [("sent", reason)] * 2
        assert min(entry.attempts for entry in deliveries(sqlite)) >= 2
        assert len(peer.stored) == 2


@pytest.mark.parametrize("transaction_uid", ["", "1.2.3"])
def test_a_result_of_no_request_changes_nothing(sqlite, tmp_path, transaction_uid):
    node = node_of(tmp_path, [dicom("pacs", 104, commitment=True)])
    study_uid = read_study(sqlite, node, 1)
    committed(sqlite, node, transaction_uid, [object_uid(study_uid, 1, "sr")], [], NOW)
    assert states(sqlite) == ["waiting"] * 2


def test_an_older_result_that_is_not_committed_to_is_not_sent_after_the_newer_one(database, tmp_path):
    with storage_peer(commitment="later") as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port, commitment=True)])
        study_uid = read_study(database, node, 1, kinds=["sr"])
        deliver_due(database, node, NOW)
        read_study(database, node, 1, kinds=["sr"], version=2)
        deliver_due(database, node, NOW + 1)
        first, second = (object_uid(study_uid, version, "sr") for version in (1, 2))
        committed(database, node, peer.asked[0][0], [], [(first, 0x0112)], NOW + 10)
        committed(database, node, peer.asked[1][0], [second], [], NOW + 10)
        deliver_due(database, node, NOW + 100)
        assert states(database) == ["overtaken", "done"]
        assert peer.uids == [first, second]


def test_what_waits_for_a_commitment_that_is_no_longer_asked_for_is_done(database, tmp_path):
    with storage_peer(commitment="later") as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port, commitment=True)])
        study_uid = read_study(database, node, 1)
        deliver_due(database, node, NOW)
        without = node_of(tmp_path, [dicom("pacs", peer.port)])
        deliver_due(database, without, NOW + ANSWER_SECONDS + 30)
        assert states(database) == ["done"] * 2
        assert study_state(database, study_uid) == DONE
        assert len(peer.stored) == 2
        assert peer.associations == 1
