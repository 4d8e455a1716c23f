"""Studies that are complete, and the jobs that are made of them."""

import tempfile
import threading
from pathlib import Path

import pytest
from configured import configured
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    SecondaryCaptureImageStorage,
)
from receiving import receive, the_jobs, the_study
from small_images import make_image
from sqlalchemy import select

from freezeframe.pacs.database import open_database
from freezeframe.pacs.studies import completion, images
from freezeframe.pacs.studies.completion import complete_due
from freezeframe.pacs.studies.lost import LOST
from freezeframe.pacs.tables import Delivery, Image, Job, Result, ResultObject, Study


def set_jobs(database, state: str) -> None:
    with database.transaction() as session:
        for job in session.scalars(select(Job)):
            job.state = state
        for study in session.scalars(select(Study)):
            study.state = state


def numbers(job: Job) -> list[str]:
    """Return the last two components of the images: series and number."""
    return [".".join(uid.split(".")[-2:]) for uid in job.image_uids]


def test_a_study_is_completed_when_its_time_has_come_and_not_before(database, tmp_path):
    configuration = configured(tmp_path)
    receive(database, configuration, make_image(), 1000)
    assert complete_due(database, configuration, 1029.9) == 0
    assert complete_due(database, configuration, 1030) == 1
    assert complete_due(database, configuration, 1031) == 0
    study, (job,) = the_study(database), the_jobs(database)
    assert (study.state, study.version, study.deadline) == ("waiting", 1, None)
    assert (job.version, job.bundle, job.rule, job.state, job.priority) == (1, "default", "all", "waiting", 5)
    assert (job.not_before, job.created_at) == (1030, 1030)


def test_images_are_in_order_of_series_and_instance_number_then_of_their_uid(sqlite, tmp_path):
    configuration = configured(tmp_path)
    for number, series, elements in (
        (3, 2, {}),
        (2, 1, {"InstanceNumber": 10}),
        (1, 1, {"InstanceNumber": 11}),
        (4, 1, {"InstanceNumber": None}),
        (5, 3, {"SeriesNumber": None}),
        (6, 1, {"InstanceNumber": 10}),
    ):
        receive(sqlite, configuration, make_image(1, number, series, **elements), 1000)
    complete_due(sqlite, configuration, 2000)
    (job,) = the_jobs(sqlite)
    assert numbers(job) == ["1.2", "1.6", "1.1", "1.4", "2.3", "3.5"]


def test_rules_with_one_bundle_join_their_images_and_the_best_priority_counts(sqlite, tmp_path):
    rules = [
        {"name": "frontal", "view": ["PA", "AP"], "priority": 4},
        {"name": "urgent", "view": ["AP"], "priority": 1},
        {"name": "lateral", "view": ["LL"], "bundle": "second"},
    ]
    configuration = configured(tmp_path, rules=rules)
    for number, view in ((1, "PA"), (2, "AP"), (3, "LL"), (4, "RL")):
        receive(sqlite, configuration, make_image(number=number, ViewPosition=view), 1000)
    complete_due(sqlite, configuration, 2000)
    first, second = the_jobs(sqlite)
    assert (first.bundle, first.rule, first.priority, numbers(first)) == (
        "default",
        "urgent",
        1,
        ["1.1", "1.2"],
    )
    assert (second.bundle, second.rule, second.priority, numbers(second)) == ("second", "lateral", 5, ["1.3"])


def test_a_study_that_no_rule_wants_is_ignored_and_says_why_without_the_patient(sqlite, tmp_path):
    rules = [{"name": "chest", "modality": ["DX"], "attributes": {"PatientID": "X.*"}}]
    configuration = configured(tmp_path, rules=rules)
    receive(sqlite, configuration, make_image(number=1, Modality="CT"), 1000)
    receive(sqlite, configuration, make_image(number=2), 1000)
    assert complete_due(sqlite, configuration, 2000) == 1
    study = the_study(sqlite)
    assert the_jobs(sqlite) == []
    assert (study.state, study.deadline) == ("ignored", None)
    assert study.reason == (
        "No rule chose any of its images (2). Rule chest: PatientID does not fit (2), the modality is CT (1)."
    )


def test_objects_that_are_no_images_are_not_read(sqlite, tmp_path):
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(number=1, SOPClassUID=BasicTextSRStorage), 1000)
    receive(sqlite, configuration, make_image(number=2, PixelData=None), 1000)
    complete_due(sqlite, configuration, 2000)
    study = the_study(sqlite)
    assert (study.state, study.reason) == ("ignored", "It holds no image. Objects that are no images: 2.")


def test_a_result_of_a_node_that_comes_back_is_not_read(sqlite, tmp_path):
    configuration = configured(tmp_path)
    capture = make_image(number=9, SOPClassUID=SecondaryCaptureImageStorage, Manufacturer="Freezeframe ")
    receive(sqlite, configuration, make_image(), 1000)
    receive(sqlite, configuration, capture, 1001)
    complete_due(sqlite, configuration, 2000)
    (job,) = the_jobs(sqlite)
    assert numbers(job) == ["1.1"]


def test_a_result_of_this_node_is_known_by_its_uid_whatever_it_says(sqlite, tmp_path):
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(), 1000)
    complete_due(sqlite, configuration, 2000)
    capture = make_image(number=9, SOPClassUID=SecondaryCaptureImageStorage, Manufacturer="REWRITTEN")
    give_result(sqlite, capture.SOPInstanceUID, "done")
    receive(sqlite, configuration, capture, 3000)
    assert complete_due(sqlite, configuration, 4000) == 1
    assert [numbers(job) for job in the_jobs(sqlite)] == [["1.1"]]


def give_result(database, sop_instance_uid: str, delivery: str) -> None:
    set_jobs(database, "done")
    with database.transaction() as session:
        job = session.scalars(select(Job)).one()
        result = Result(
            job_id=job.id, study_id=job.study_id, version=1, bundle="default", bundle_name="b", bundle_sha256="0",
            outcome="negative", probability=0.1, current=True, reading={}, created_at=1, seconds=1,
        )  # fmt: skip
        session.add(result)
        session.flush()
        made = ResultObject(
            result_id=result.id,
            kind="sc",
            sop_instance_uid=sop_instance_uid,
            path="results/x.dcm",
            sha256="0",
        )
        session.add(made)
        session.flush()
        session.add(Delivery(object_id=made.id, destination="pacs", priority=5, state=delivery, not_before=0))


@pytest.mark.parametrize(
    ("delivery", "state"), [("waiting", "delivering"), ("sent", "delivering"), ("done", "done")]
)
def test_a_result_that_comes_back_makes_no_new_version_and_leaves_the_state_as_it_was(
    sqlite, tmp_path, delivery, state
):
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(), 1000)
    complete_due(sqlite, configuration, 2000)
    capture = make_image(number=9, SOPClassUID=SecondaryCaptureImageStorage)
    give_result(sqlite, capture.SOPInstanceUID, delivery)
    receive(sqlite, configuration, capture, 3000)
    complete_due(sqlite, configuration, 4000)
    study = the_study(sqlite)
    assert (study.version, study.state, study.deadline) == (1, state, None)


@pytest.mark.parametrize(("job", "state"), [("waiting", "waiting"), ("claimed", "reading")])
def test_an_image_that_no_rule_chooses_does_not_disturb_a_reading(sqlite, tmp_path, job, state):
    configuration = configured(tmp_path, rules=[{"name": "frontal", "view": ["PA"]}])
    receive(sqlite, configuration, make_image(), 1000)
    complete_due(sqlite, configuration, 2000)
    set_jobs(sqlite, job)
    receive(sqlite, configuration, make_image(number=2, ViewPosition="LL"), 3000)
    complete_due(sqlite, configuration, 4000)
    study = the_study(sqlite)
    assert (study.version, study.state, [entry.state for entry in the_jobs(sqlite)]) == (1, state, [job])


def test_a_late_image_makes_the_next_version_and_overtakes_a_job_that_waits(sqlite, tmp_path):
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(), 1000)
    complete_due(sqlite, configuration, 2000)
    receive(sqlite, configuration, make_image(number=2), 3000)
    complete_due(sqlite, configuration, 4000)
    first, second = the_jobs(sqlite)
    assert (first.state, second.state, second.version) == ("overtaken", "waiting", 2)
    assert numbers(second) == ["1.1", "1.2"]
    assert the_study(sqlite).version == 2


@pytest.mark.parametrize("state", ["claimed", "done", "quarantined"])
def test_a_job_that_has_begun_is_left_as_it_is_when_the_next_version_comes(sqlite, tmp_path, state):
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(), 1000)
    complete_due(sqlite, configuration, 2000)
    set_jobs(sqlite, state)
    receive(sqlite, configuration, make_image(number=2), 3000)
    complete_due(sqlite, configuration, 4000)
    assert [job.state for job in the_jobs(sqlite)] == [state, "waiting"]
    assert the_study(sqlite).state == "waiting"


def test_only_the_bundle_whose_images_changed_reads_again(sqlite, tmp_path):
    rules = [{"name": "frontal", "view": ["PA"]}, {"name": "lateral", "view": ["LL"], "bundle": "second"}]
    configuration = configured(tmp_path, rules=rules)
    receive(sqlite, configuration, make_image(number=1), 1000)
    receive(sqlite, configuration, make_image(number=2, ViewPosition="LL"), 1000)
    complete_due(sqlite, configuration, 2000)
    set_jobs(sqlite, "done")
    receive(sqlite, configuration, make_image(number=3, ViewPosition="LL"), 3000)
    complete_due(sqlite, configuration, 4000)
    assert [(job.bundle, job.version) for job in the_jobs(sqlite)] == [
        ("default", 1),
        ("second", 1),
        ("second", 2),
    ]


def test_a_study_that_was_put_aside_is_read_again_when_any_image_comes(sqlite, tmp_path):
    configuration = configured(tmp_path, rules=[{"name": "frontal", "view": ["PA"]}])
    receive(sqlite, configuration, make_image(), 1000)
    complete_due(sqlite, configuration, 2000)
    set_jobs(sqlite, "quarantined")
    receive(sqlite, configuration, make_image(number=2, ViewPosition="LL"), 3000)
    complete_due(sqlite, configuration, 4000)
    assert [job.state for job in the_jobs(sqlite)] == ["quarantined", "waiting"]


def test_an_image_whose_header_can_not_be_read_is_named_to_every_bundle_that_reads_another(sqlite, tmp_path):
    rules = [
        {"name": "frontal", "view": ["PA"]},
        {"name": "lateral", "view": ["LL"], "bundle": "second"},
    ]
    configuration = configured(tmp_path, rules=rules)
    for number, view in enumerate(("PA", "PA", "LL"), 1):
        receive(sqlite, configuration, make_image(number=number, ViewPosition=view), 1000)
    next((tmp_path / "images").rglob("*.1.1.dcm")).write_bytes(b"\0" * 10)
    complete_due(sqlite, configuration, 2000)
    assert [(job.bundle, numbers(job)) for job in the_jobs(sqlite)] == [
        ("default", ["1.2", "1.1"]),
        ("second", ["1.3", "1.1"]),
    ]


def test_a_study_of_which_only_an_image_that_can_not_be_read_may_be_wanted_is_put_aside(sqlite, tmp_path):
    configuration = configured(tmp_path, rules=[{"name": "frontal", "view": ["PA"]}])
    for number, view in enumerate(("PA", "LL"), 1):
        receive(sqlite, configuration, make_image(number=number, ViewPosition=view), 1000)
    next((tmp_path / "images").rglob("*.1.1.dcm")).write_bytes(b"\0" * 10)
    complete_due(sqlite, configuration, 2000)
    study = the_study(sqlite)
    assert study.state == "quarantined"
    assert study.reason.endswith("Files that could not be read: 1.")
    assert the_jobs(sqlite) == []


def test_a_study_of_which_nothing_can_be_read_is_put_aside(sqlite, tmp_path):
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(), 1000)
    next((tmp_path / "images").rglob("*.dcm")).write_bytes(b"")
    complete_due(sqlite, configuration, 2000)
    study = the_study(sqlite)
    assert (study.state, study.reason) == (
        "quarantined",
        "It holds no image. Files that could not be read: 1.",
    )


def test_a_study_that_has_lost_an_image_is_not_read_without_it_when_a_late_one_comes(sqlite, tmp_path):
    configuration = configured(tmp_path)
    for number in (1, 2):
        receive(sqlite, configuration, make_image(number=number), 1000)
    complete_due(sqlite, configuration, 2000)
    next((tmp_path / "images").rglob("*.1.1.dcm")).unlink()
    receive(sqlite, configuration, make_image(number=3), 3000)
    complete_due(sqlite, configuration, 4000)
    study = the_study(sqlite)
    assert (study.state, study.deadline) == ("quarantined", None)
    assert study.reason.startswith(f"{LOST}: 1.")
    assert [job.state for job in the_jobs(sqlite)] == ["quarantined"]


def test_images_that_were_deleted_since_they_were_read_are_named_in_the_next_reading(sqlite, tmp_path):
    # Else the result of a late image would stand for the study, and what was found in the first images be gone.
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(), 1000)
    complete_due(sqlite, configuration, 2000)
    set_jobs(sqlite, "done")
    with sqlite.transaction() as session:
        session.scalars(select(Image)).one().deleted_at = 2500
    receive(sqlite, configuration, make_image(number=2), 3000)
    complete_due(sqlite, configuration, 4000)
    assert [numbers(job) for job in the_jobs(sqlite)] == [["1.1"], ["1.2", "1.1"]]
    set_jobs(sqlite, "done")
    receive(sqlite, configuration, make_image(number=3, SOPClassUID=BasicTextSRStorage), 5000)
    complete_due(sqlite, configuration, 6000)
    assert len(the_jobs(sqlite)) == 2  # it changes nothing


def test_two_processes_complete_each_study_once(database, tmp_path):
    configuration = configured(tmp_path)
    for study in range(12):
        receive(database, configuration, make_image(study, SOPClassUID=ComputedRadiographyImageStorage), 1000)
    counts, failures = [], []

    def complete() -> None:
        try:
            counts.append(complete_due(database, configuration, 2000))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=complete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    # A row that another one holds is passed over: what is left is done by the next call.
    assert sum(counts) + complete_due(database, configuration, 2001) == 12
    assert [job.version for job in the_jobs(database)] == [1] * 12


def test_an_image_that_comes_while_the_files_are_looked_at_puts_the_completion_off(
    sqlite, tmp_path, monkeypatch
):
    configuration = configured(tmp_path)
    receive(sqlite, configuration, make_image(), 1000)
    late = [make_image(number=2)]
    real = images.is_result

    def meanwhile(header):
        if late:
            receive(sqlite, configuration, late.pop(), 1029)
        return real(header)

    monkeypatch.setattr("freezeframe.pacs.studies.looking.is_result", meanwhile)
    assert complete_due(sqlite, configuration, 1030) == 0
    assert complete_due(sqlite, configuration, 1059) == 1
    (job,) = the_jobs(sqlite)
    assert numbers(job) == ["1.1", "1.2"]


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)))
def test_any_order_of_arrival_ends_in_the_same_jobs(order):
    views = ["PA", "AP", "LL", "PA", "LL", "RL"]
    rules = [
        {"name": "frontal", "view": ["PA", "AP"]},
        {"name": "lateral", "view": ["LL"], "bundle": "second"},
    ]
    with tempfile.TemporaryDirectory() as folder:
        configuration = configured(Path(folder), rules=rules)
        database = open_database(configuration)
        for study, some in ((1, range(6)), (2, order)):
            for second, number in enumerate(some):
                image = make_image(study, number, number % 2, ViewPosition=views[number])
                receive(database, configuration, image, 1000 + second)
        assert complete_due(database, configuration, 2000) == 2
        jobs = [(job.bundle, job.rule, job.version, numbers(job)) for job in the_jobs(database)]
        database.close()
    assert [entry[0] for entry in jobs] == ["default", "default", "second", "second"]
    assert jobs[0] == jobs[1]
    assert jobs[2] == jobs[3]


def test_a_study_that_breaks_the_look_at_it_hinders_no_other_and_says_so(database, tmp_path, monkeypatch):
    configuration = configured(tmp_path)
    for study in (1, 2):
        receive(database, configuration, make_image(study), 1000 + study)
    look = completion.look

    def breaks(folder, rows, *others):
        if rows[0].id == 1:
            raise RuntimeError("PHANTOM^0001")
        return look(folder, rows, *others)

    monkeypatch.setattr(completion, "look", breaks)
    assert complete_due(database, configuration, 2000) == 2
    with database.reading() as session:
        first, second = session.scalars(select(Study).order_by(Study.id))
    assert (first.state, second.state) == ("quarantined", "waiting")
    assert first.reason == "Its images can't be looked at (RuntimeError)."
