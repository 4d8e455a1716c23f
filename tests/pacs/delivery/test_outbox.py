"""What goes to whom, in what order, and what becomes of destinations that fail."""

import socket
import threading
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from delivering import deliver_due
from hypothesis import given, settings
from hypothesis import strategies as st
from outgoing import NOW, deliveries, dicom, node_of, object_uid, read_study, states, study_state
from sqlalchemy import select
from storage_peer import storage_peer

from freezeframe.pacs.configuration import Limits
from freezeframe.pacs.database import open_database
from freezeframe.pacs.delivery import claims, dicom_sender
from freezeframe.pacs.delivery.outbox import UNKNOWN_DESTINATION, deliver_to, look_after, run
from freezeframe.pacs.delivery.parcels import Answer
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import DELIVERING, DONE, AuditEntry, Delivery

ALL = ("sr", "sc", "gsps", "hl7", "fhir")


@pytest.fixture
def closed_port():
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield free.getsockname()[1]


def test_each_destination_gets_the_kinds_that_it_takes(sqlite, tmp_path):
    node = node_of(
        tmp_path,
        [
            dicom("pacs", 104, objects=["sr", "sc"]),
            {"kind": "dicomweb", "name": "web", "url": "http://127.0.0.1:1", "objects": ["gsps"]},
            {"kind": "hl7", "name": "ris", "address": "127.0.0.1", "port": 1},
            {"kind": "fhir", "name": "fhir", "url": "http://127.0.0.1:1"},
        ],
    )
    read_study(sqlite, node, 1, kinds=ALL)
    found = [delivery.destination for delivery in deliveries(sqlite)]
    assert found == ["pacs", "pacs", "web", "ris", "fhir"]


def test_in_shadow_mode_nothing_leaves_and_the_study_is_done(sqlite, tmp_path):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)], shadow=True)
        study_uid = read_study(sqlite, node, 1)
        assert deliver_due(sqlite, node, NOW) == 0
        assert states(sqlite) == ["withheld"] * 2
        assert study_state(sqlite, study_uid) == DONE
        # What was withheld stays so when the mode ends.
        assert deliver_due(sqlite, node_of(tmp_path, [dicom("pacs", peer.port)]), NOW) == 0
        assert peer.associations == 0


def test_a_study_without_destinations_is_done(sqlite, tmp_path):
    node = node_of(tmp_path)
    study_uid = read_study(sqlite, node, 1)
    deliver_due(sqlite, node, NOW)
    assert study_state(sqlite, study_uid) == DONE


def test_a_new_version_overtakes_what_was_not_sent(database, tmp_path, closed_port):
    node = node_of(tmp_path, [dicom("pacs", closed_port)])
    read_study(database, node, 1)
    deliver_due(database, node, NOW)
    study_uid = read_study(database, node, 1, version=2)
    assert states(database) == ["overtaken"] * 2 + ["waiting"] * 2
    with storage_peer() as peer:
        assert deliver_due(database, node_of(tmp_path, [dicom("pacs", peer.port)]), NOW + 20) == 2
        assert peer.uids == [object_uid(study_uid, 2, kind) for kind in ("sr", "sc")]
    assert study_state(database, study_uid) == DONE


def test_what_is_sent_while_it_is_overtaken_is_said_to_be_done(database, tmp_path):
    node = node_of(tmp_path, [dicom("pacs", 104)])
    read_study(database, node, 1)
    parcels = claims.claim(database, node, "pacs", NOW)
    read_study(database, node, 1, version=2)
    claims.note(database, node, "pacs", Answer(parcels[0], True), False, NOW)
    claims.note(database, node, "pacs", Answer(parcels[1], False, "no"), False, NOW)
    assert states(database) == ["done", "overtaken", "waiting", "waiting"]


def test_findings_are_sent_first_then_the_oldest(database, tmp_path):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        outcomes = ("negative", "refused", "positive", "negative", "positive")
        uids = [
            read_study(database, node, number, outcome, kinds=["sr"])
            for number, outcome in enumerate(outcomes, 1)
        ]
        assert deliver_due(database, node, NOW) == 5
        assert peer.uids == [object_uid(uids[number], 1, "sr") for number in (2, 4, 1, 0, 3)]


def test_the_objects_of_a_study_go_over_one_association(sqlite, tmp_path):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        read_study(sqlite, node, 1, kinds=["sr", "sc", "gsps"])
        assert deliver_due(sqlite, node, NOW) == 3
        assert peer.associations == 1


def test_several_processes_never_hold_the_same_delivery(database, tmp_path):
    node = node_of(tmp_path, [dicom("pacs", 104)])
    for number in range(1, 16):
        read_study(database, node, number)
    held: list[int] = []

    def take() -> None:
        while parcels := claims.claim(database, node, "pacs", NOW):
            held.extend(parcel.delivery_id for parcel in parcels)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One that saw only rows that others had locked has stopped early; what is left is taken now.
    take()
    assert len(held) == len(set(held)) == 30


def test_a_newer_version_is_not_given_out_while_another_process_sends_the_older_one(database, tmp_path):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port), dicom("archive", 104)])
        study_uid = read_study(database, node, 1)
        other = read_study(database, node, 2, outcome="negative", kinds=["sr"])
        held = claims.claim(database, node, "pacs", NOW)
        read_study(database, node, 1, version=2)
        # It may have said of one object that it has it, and hold the others still.
        claims.note(database, node, "pacs", Answer(held[0], True), False, NOW)
        (parcel,) = claims.claim(database, node, "pacs", NOW + 1)
        assert parcel.study_uid == other
        assert claims.claim(database, node, "pacs", NOW + 1) == ()
        # Another destination has its own order.
        assert [parcel.study_uid for parcel in claims.claim(database, node, "archive", NOW + 1)] == [
            study_uid
        ] * 2
        claims.note(database, node, "pacs", Answer(held[1], True), False, NOW)
        claims.let_go(database, held, NOW)
        assert deliver_to(database, node, "pacs", NOW + 2) == 2
        assert peer.uids == [object_uid(study_uid, 2, kind) for kind in ("sr", "sc")]


def test_two_processes_never_hold_deliveries_of_one_study_to_one_destination(database, tmp_path):
    node = node_of(tmp_path, [dicom("pacs", 104)])
    for number in range(1, 6):
        read_study(database, node, number, kinds=["sr"])
    stop = threading.Event()
    held: set[str] = set()
    twice: list[str] = []
    claimed: list[int] = []

    def deliver() -> None:
        while not stop.is_set():
            parcels = claims.claim(database, node, "pacs", NOW)
            study_uids = {parcel.study_uid for parcel in parcels}
            twice.extend(held & study_uids)
            held.update(study_uids)
            for parcel in parcels:
                claims.note(database, node, "pacs", Answer(parcel, True), False, NOW)
                claimed.append(parcel.delivery_id)
            held.difference_update(study_uids)
            claims.let_go(database, parcels, NOW)

    threads = [threading.Thread(target=deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for version in range(2, 7):
            for number in range(1, 6):
                read_study(database, node, number, kinds=["sr"], version=version)
        deadline = time.monotonic() + 60
        while not set(states(database)) <= {"done", "overtaken"} and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert twice == []
    assert len(claimed) == len(set(claimed)) >= 5


def test_a_process_whose_lease_has_ended_lets_go_of_nothing_that_another_holds(database, tmp_path):
    node = node_of(tmp_path, [dicom("pacs", 104)])
    read_study(database, node, 1)
    late = NOW + claims.LEASE_SECONDS
    first, second = claims.claim(database, node, "pacs", NOW), claims.claim(database, node, "pacs", late)
    assert len(first) == len(second) == 2
    claims.let_go(database, first, NOW)
    assert claims.claim(database, node, "pacs", late) == ()


def test_what_a_dead_process_held_is_due_again_when_its_lease_has_ended(sqlite, tmp_path):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        read_study(sqlite, node, 1)
        assert len(claims.claim(sqlite, node, "pacs", NOW)) == 2
        assert deliver_due(sqlite, node, NOW + claims.LEASE_SECONDS - 1) == 0
        assert deliver_due(sqlite, node, NOW + claims.LEASE_SECONDS) == 2


def test_a_destination_that_is_down_hinders_no_other_and_counts_one_attempt(database, tmp_path, closed_port):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("down", closed_port), dicom("up", peer.port)])
        for number in range(1, 5):
            read_study(database, node, number)
        assert deliver_due(database, node, NOW) == 8
        down = [delivery for delivery in deliveries(database) if delivery.destination == "down"]
        assert {delivery.state for delivery in down} == {"waiting"}
        assert sum(delivery.attempts for delivery in down) == 1
        assert len(peer.stored) == 8


def test_a_destination_that_is_down_is_tried_after_times_that_double_up_to_the_longest(
    sqlite, tmp_path, closed_port
):
    node = node_of(tmp_path, [dicom("pacs", closed_port)], limits={"first_wait": 10, "longest_wait": 60})
    read_study(sqlite, node, 1, kinds=["sr"])
    tried, seconds = [], 0
    while len(tried) < 6:
        deliver_to(sqlite, node, "pacs", NOW + seconds)
        if deliveries(sqlite)[0].attempts > len(tried):
            tried.append(seconds)
        seconds += 1
        assert seconds < 400
    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert [round(wait, -1) for wait in waits] == [10, 20, 40, 60, 60]
    # It is back, and goes wrong again later: the times start anew.
    with storage_peer() as peer:
        assert deliver_due(sqlite, node_of(tmp_path, [dicom("pacs", peer.port)]), NOW + 1000) == 1
    read_study(sqlite, node, 2, kinds=["sr"])
    deliver_due(sqlite, node, NOW + 1001)
    with sqlite.reading() as session:
        assert claims.paused_until(session, "pacs") == pytest.approx(NOW + 1011, abs=1)


def test_an_object_that_is_refused_waits_for_itself_and_the_others_go(sqlite, tmp_path):
    refused: set[str] = set()
    with storage_peer(lambda uid: 0x0110 if uid in refused else 0) as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        study_uid = read_study(sqlite, node, 1)
        refused.add(object_uid(study_uid, 1, "sr"))
        read_study(sqlite, node, 2)
        assert deliver_due(sqlite, node, NOW) == 3
        assert study_state(sqlite, study_uid) == DELIVERING
        first = deliveries(sqlite)[0]
        assert (first.state, first.attempts, first.reason) == ("waiting", 1, "C-STORE status 0x0110")
        assert first.not_before == pytest.approx(NOW + 10, abs=5)
        refused.clear()
        assert deliver_due(sqlite, node, NOW + 20) == 1
        assert study_state(sqlite, study_uid) == DONE


def test_an_object_that_a_destination_does_not_survive_delays_the_others_only(sqlite, tmp_path):
    poison: set[str] = set()
    with storage_peer(lambda uid: "abort" if uid in poison else 0) as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        study_uid = read_study(sqlite, node, 1)
        poison.add(object_uid(study_uid, 1, "sr"))
        for number in range(2, 5):
            read_study(sqlite, node, number)
        for seconds in range(0, 45, 11):
            deliver_due(sqlite, node, NOW + seconds)
        assert len(set(peer.uids)) == len(peer.uids) == 7
        assert [delivery.state for delivery in deliveries(sqlite)].count("waiting") == 1


def test_an_administrator_can_have_a_delivery_tried_at_once(database, tmp_path, closed_port):
    node = node_of(tmp_path, [dicom("pacs", closed_port)])
    read_study(database, node, 1)
    deliver_due(database, node, NOW)
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        assert deliver_due(database, node, NOW + 1) == 0
        with database.transaction() as session:
            claims.retry(session, session.scalars(select(Delivery)).first(), NOW + 1)
        assert deliver_due(database, node, NOW + 1) == 2


def test_results_for_a_destination_that_is_gone_wait_with_the_reason(database, tmp_path):
    study_uid = read_study(database, node_of(tmp_path, [dicom("old", 104)]), 1, kinds=["sr"])
    look_after(database, node_of(tmp_path))
    assert [(entry.state, entry.reason) for entry in deliveries(database)] == [
        ("waiting", UNKNOWN_DESTINATION)
    ]
    assert study_state(database, study_uid) == DELIVERING


def test_what_a_destination_that_is_gone_did_not_commit_to_has_the_reason_too(database, tmp_path):
    node = node_of(tmp_path, [dicom("old", 104, commitment=True)])
    read_study(database, node, 1)
    parcels = claims.claim(database, node, "old", NOW)
    claims.note(database, node, "old", Answer(parcels[0], True), True, NOW)
    claims.let_go(database, parcels, NOW)
    look_after(database, node_of(tmp_path))
    assert [(entry.state, entry.reason) for entry in deliveries(database)] == [
        ("sent", UNKNOWN_DESTINATION),
        ("waiting", UNKNOWN_DESTINATION),
    ]


@pytest.mark.parametrize("commitment", [False, True])
def test_what_is_withheld_while_it_is_sent_is_not_sent_again(database, tmp_path, commitment):
    node = node_of(tmp_path, [dicom("pacs", 104, commitment=commitment)])
    study_uid = read_study(database, node, 1)
    parcels = claims.claim(database, node, "pacs", NOW)
    with database.transaction() as session:
        claims.withhold(session, [parcel.delivery_id for parcel in parcels])
    claims.note(database, node, "pacs", Answer(parcels[0], True), commitment, NOW)
    claims.note(database, node, "pacs", Answer(parcels[1], False, "no"), commitment, NOW)
    claims.let_go(database, parcels, NOW)
    look_after(database, node)
    assert states(database) == ["withheld" if commitment else "done", "withheld"]
    assert study_state(database, study_uid) == DONE


def test_a_file_that_was_changed_is_not_sent(sqlite, tmp_path):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        study_uid = read_study(sqlite, node, 1)
        folder = node.folder / "results" / study_uid / "1-default"
        (folder / "sr.dat").write_bytes((folder / "sr.dat").read_bytes() + b"\0\0")
        (folder / "sc.dat").unlink()
        assert deliver_due(sqlite, node, NOW) == 0
        assert peer.tried == []
        reasons = [entry.reason for entry in deliveries(sqlite)]
        assert reasons == ["its file was changed", "its file can't be read (No such file or directory)"]


def test_each_delivery_is_in_the_audit_trail(database, tmp_path):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        study_uid = read_study(database, node, 1)
        deliver_due(database, node, NOW)
    with database.reading() as session:
        lines = list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))
    assert [(line.what, line.target, line.detail) for line in lines] == [
        (audit.RESULT_SENT, study_uid, "sr to pacs"),
        (audit.RESULT_SENT, study_uid, "sc to pacs"),
    ]
    assert audit.verify(database).broken is None


def test_twenty_destinations_of_which_one_is_silent_and_one_down(sqlite, tmp_path, closed_port, monkeypatch):
    monkeypatch.setattr("freezeframe.pacs.delivery.dicom_sender.ASSOCIATE_SECONDS", 2.0)
    with storage_peer() as peer, socket.create_server(("127.0.0.1", 0)) as silent:
        ports = [peer.port] * 18 + [closed_port, silent.getsockname()[1]]
        node = node_of(tmp_path, [dicom(f"pacs{number}", port) for number, port in enumerate(ports)])
        uids = [read_study(sqlite, node, number) for number in range(1, 4)]
        assert deliver_due(sqlite, node, NOW) == 18 * 6
        assert sorted(peer.uids) == sorted(
            object_uid(uid, 1, kind) for uid in uids for kind in ("sr", "sc") for _ in range(18)
        )
        assert states(sqlite).count("waiting") == 2 * 6


def test_run_delivers_until_it_is_told_to_stop(database, tmp_path, closed_port):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("down", closed_port), dicom("pacs", peer.port)])
        stop, all_there = threading.Event(), threading.Event()
        peer.behaviour = lambda uid: all_there.set() or 0 if len(peer.tried) == 6 else 0
        thread = threading.Thread(target=run, args=(database, node, stop, 0.05))
        thread.start()
        try:
            for number in range(1, 4):
                read_study(database, node, number, now=0)
            assert all_there.wait(60)
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()
        assert len(peer.stored) == 6


@given(st.integers(0, 10**6), st.floats(0.01, 1e4), st.floats(0.01, 1e5))
def test_waits_never_shrink_and_never_exceed_the_longest(attempts, first, longest):
    limits = Limits(first_wait=first, longest_wait=longest)
    assert 0 < claims.wait(attempts, limits) <= claims.wait(attempts + 1, limits) <= longest
    assert claims.wait(1, limits) == min(first, longest)


@pytest.fixture(scope="module")
def shared_peer():
    with storage_peer() as peer:
        yield peer


@settings(deadline=None, max_examples=12)
@given(
    script=st.lists(
        st.sampled_from(["stored", "refused", "failed", "abort", "lost answer", "killed"]), max_size=8
    )
)
def test_whatever_goes_wrong_a_delivery_ends_done_and_there_is_one_copy(
    script, tmp_path_factory, shared_peer
):
    folder = tmp_path_factory.mktemp("node")
    node = node_of(folder, [dicom("pacs", shared_peer.port)], limits={"first_wait": 1, "longest_wait": 8})
    database = open_database(node)
    try:
        shared_peer.stored.clear()
        study_uid = read_study(database, node, 1, kinds=["sr"])
        now = NOW
        for step in script:
            now += 1000
            if step in ("lost answer", "killed"):  # the process dies after, or before, the peer has stored it
                parcels = claims.claim(database, node, "pacs", now)
                shared_peer.behaviour = lambda uid: 0
                if parcels and step == "lost answer":
                    deliver_unnoted(node, parcels)
                continue
            shared_peer.behaviour = {
                "stored": lambda uid: 0, "refused": lambda uid: 0xC000, "failed": lambda uid: 0x0110,
                "abort": lambda uid: "abort",
            }[step]  # fmt: skip
            deliver_due(database, node, now)
        shared_peer.behaviour = lambda uid: 0
        taken = deliver_due(database, node, now + 1000) + deliver_due(database, node, now + 2000)
        assert taken <= 1
        assert states(database) == ["done"]
        assert study_state(database, study_uid) == DONE
        assert set(shared_peer.uids) == {object_uid(study_uid, 1, "sr")}
        assert len({content for _, content in shared_peer.stored}) == 1  # a PACS keeps one of them
        with database.reading() as session:
            assert len(session.scalars(select(AuditEntry)).all()) == 1
    finally:
        database.close()


def deliver_unnoted(node, parcels):
    waiting = [replace(parcel, is_stored=False) for parcel in parcels]
    for _ in dicom_sender.send(node.destinations[0], node.ae_title, waiting, None):
        pass
