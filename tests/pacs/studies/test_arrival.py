"""The clock of a study."""

import itertools
import threading

import pytest
from configured import configured
from hypothesis import given, settings
from hypothesis import strategies as st
from receiving import receive, the_study
from small_images import make_image
from sqlalchemy import select

from freezeframe.pacs.configuration import Patience
from freezeframe.pacs.database import open_database
from freezeframe.pacs.studies.arrival import StudyHeader, arrived
from freezeframe.pacs.tables import Study

PATIENCE = Patience(quiet_seconds=30, at_most_seconds=100)


def arrive(database, *times, patience=PATIENCE, source="pacs", **header):
    for now in times:
        with database.transaction() as session:
            arrived(session, StudyHeader("1.2.3", **header), source, patience, now)
    return the_study(database)


def test_a_study_is_due_a_quiet_time_after_its_last_image(database):
    assert arrive(database, 1000, 1010).deadline == 1040


def test_a_study_is_due_at_the_latest_some_time_after_its_first_image(database):
    study = arrive(database, 1000, 1025, 1050, 1075, 1090)
    assert (study.deadline, study.images, study.state) == (1100, 5, "receiving")


def test_the_patience_is_that_of_the_source_of_the_last_image(database):
    arrive(database, 1000)
    study = arrive(database, 1005, patience=Patience(quiet_seconds=5, at_most_seconds=20), source="ct")
    assert (study.deadline, study.source) == (1010, "ct")


def test_an_image_that_fills_a_gap_is_described_and_does_not_empty_what_is_known(database):
    arrive(database, 1000, patient_id="PHANTOM-1", modality="DX")
    study = arrive(database, 1001, description="CHEST PA", modality="CR")
    assert (study.patient_id, study.description, study.modalities) == ("PHANTOM-1", "CHEST PA", "CR\\DX")


def test_what_a_newer_image_says_of_the_study_counts(database):
    arrive(database, 1000, description="CHEST")
    arrive(database, 1010, description="THORAX")
    assert arrive(database, 1005, description="ABDOMEN").description == "THORAX"


def test_texts_that_no_column_holds_are_cut(database):
    study = arrive(
        database, 1000, patient_id="P\0" * 80, modality="DX" * 40, study_time="101500.123456789012345"
    )
    assert study.patient_id == "P" * 64
    assert study.study_time == "101500.123456789"
    assert study.modalities == "DX" * 8


def test_first_images_that_come_at_once_make_one_study(database):
    failures = []

    def come() -> None:
        try:
            arrive(database, 1000)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert the_study(database).images == 8


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A database for many examples, each with studies of its own."""
    database = open_database(configured(tmp_path_factory.mktemp("lasting")))
    yield database
    database.close()


numbers = itertools.count(1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=6, unique=True).flatmap(
        lambda times: st.tuples(st.just(sorted(times)), st.permutations(times))
    )
)
def test_the_order_in_which_images_are_noted_does_not_matter(lasting, times):
    ordered, mixed = times
    found = []
    with lasting.transaction() as session:
        for order in (ordered, mixed):
            header = StudyHeader(f"1.2.3.{next(numbers)}")
            for now in order:
                arrived(session, header, "pacs", PATIENCE, now)
            study = session.scalars(select(Study).where(Study.study_uid == header.study_uid)).one()
            found.append((study.first_at, study.last_at, study.deadline, study.images))
    assert found[0] == found[1]
    first, last = ordered[0], ordered[-1]
    assert found[0][2] == min(last + 30, first + 100)


@pytest.mark.parametrize("state", ["waiting", "reading", "delivering", "done", "ignored", "quarantined"])
def test_a_late_image_opens_a_study_again(sqlite, tmp_path, state):
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(), 1000)
    with sqlite.transaction() as session:
        study = session.scalars(select(Study)).one()
        study.state, study.version, study.deadline, study.reason = state, 1, None, "a reason"
    receive(sqlite, configuration, make_image(number=2), 5000)
    study = the_study(sqlite)
    assert (study.state, study.version, study.first_at, study.deadline, study.reason) == (
        "receiving", 1, 5000, 5030, "",
    )  # fmt: skip
