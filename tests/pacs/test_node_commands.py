"""`freezeframe node ...`: its messages and exit codes."""

import pytest
from films import make, radiograph, write
from node_rows import Rows, image_reading
from sqlalchemy import select
from typer.testing import CliRunner

from freezeframe import files
from freezeframe.cli.main import app
from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import open_database
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import (
    DELIVERING,
    DELIVERY_WITHHELD,
    DONE,
    JOB_QUARANTINED,
    JOB_WAITING,
    QUARANTINED,
    WAITING,
    AuditEntry,
    Delivery,
    Image,
    Job,
    ResultObject,
    Study,
    User,
)
from freezeframe.verbs.node import init

PASSPHRASE = "four quiet radiographs"


def run(*words, typed=None):
    return CliRunner().invoke(
        app, ["node", *map(str, words)], input=typed, env={"COLUMNS": "200", "TERM": "dumb"}
    )


@pytest.fixture
def config(tmp_path, small_bundle):
    return init(tmp_path / "node", small_bundle, "ORTHANC@127.0.0.1:4242", "es")


@pytest.fixture
def database(config):
    opened = open_database(NodeConfiguration.read(config))
    yield opened
    opened.close()


def test_the_first_configuration_says_what_it_was_given_and_begins_in_shadow_mode(config, small_bundle):
    read = NodeConfiguration.read(config)
    assert read.shadow
    assert read.bundles[0].path == small_bundle
    assert (read.peers[0].ae_titles, read.peers[0].networks) == (("ORTHANC",), ("127.0.0.1",))
    assert (read.destinations[0].name, read.destinations[0].port) == ("pacs", 4242)
    assert read.results.language == "es"
    assert read.dicom.address == "127.0.0.1"


def test_without_a_pacs_nobody_is_let_in(tmp_path, small_bundle):
    read = NodeConfiguration.read(init(tmp_path, small_bundle))
    assert (read.peers, read.destinations) == ((), ())


def test_a_pacs_on_another_machine_is_listened_for(tmp_path, small_bundle):
    read = NodeConfiguration.read(init(tmp_path, small_bundle, "ARCHIVE@192.0.2.7:104"))
    assert (read.dicom.address, read.peers[0].networks) == ("0.0.0.0", ("192.0.2.7",))


def test_a_configuration_is_not_written_over(config, small_bundle):
    with pytest.raises(UserError, match="exists already"):
        init(config.parent, small_bundle)


@pytest.mark.parametrize(
    "pacs",
    [
        "ORTHANC", "ORTHANC@host", "@host:1", "ORTHANC@nobody.invalid:104", "A@host:port", "A@127.0.0.1:65536",
        "SEVENTEEN-LETTERS@127.0.0.1:104", "BACK\\SLASH@127.0.0.1:104",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_explained(tmp_path, small_bundle, pacs):
    with pytest.raises(UserError, match="--pacs"):
        init(tmp_path, small_bundle, pacs)
    assert not (tmp_path / "node.yaml").exists()


@pytest.mark.parametrize("title", ["NO", "A, B", "1234", "PACS #2", "'", "X: Y", "[X"])
def test_a_title_that_yaml_would_read_as_something_else_is_one_title(tmp_path, small_bundle, title):
    read = NodeConfiguration.read(init(tmp_path, small_bundle, f"{title}@127.0.0.1:104"))
    assert read.peers[0].ae_titles == (title,)
    assert [entry.ae_title for entry in read.destinations if entry.kind == "dicom"] == [title]


def test_a_bundles_path_may_hold_any_characters(tmp_path, small_bundle):
    odd = tmp_path / "a {bundle}: # of ours"
    odd.symlink_to(small_bundle)
    assert NodeConfiguration.read(init(tmp_path, odd)).bundles[0].path == odd


def test_the_database_is_its_owners_even_in_a_folder_that_is_open(config):
    folder = config.parent / "data"
    folder.mkdir(mode=0o755)
    (folder / "node.sqlite").touch(0o644)
    run("user", "add", "reader-1", "--role", "reader", "--config", config, typed=f"{PASSPHRASE}\n")
    assert [file.name for file in folder.iterdir() if file.stat().st_mode & 0o077] == []


def test_a_password_file_that_is_missing_is_named(config):
    files.write_text(
        config, f"{config.read_text()}\ndatabase: postgresql://u@127.0.0.1/db\ndatabase_password_file: gone\n"
    )
    answer = run("user", "list", "--config", config)
    assert isinstance(answer.exception, UserError)
    assert "gone" in str(answer.exception)


def test_what_names_no_command_is_given_to_run(config):
    answer = run("--config", config, config.parent / "missing.ffb")
    assert isinstance(answer.exception, UserError)
    assert "missing.ffb" in str(answer.exception)


def test_users_are_added_listed_and_let_in_no_longer(config, database):
    assert (
        run(
            "user", "add", "reader-1", "--role", "reader", "--config", config, typed=f"{PASSPHRASE}\n"
        ).exit_code
        == 0
    )
    assert run("user", "list", "--config", config).output == "reader-1\treader\n"
    with database.reading() as session:
        before = session.get_one(User, "reader-1").password_hash
    assert (
        run("user", "password", "reader-1", "--config", config, typed="another quiet phrase\n").exit_code == 0
    )
    assert run("user", "disable", "reader-1", "--config", config).exit_code == 0
    assert run("user", "list", "--config", config).output == "reader-1\treader\tdisabled\n"
    with database.reading() as session:
        assert session.get_one(User, "reader-1").password_hash != before
    assert run("user", "enable", "reader-1", "--config", config).exit_code == 0
    assert run("user", "list", "--config", config).output == "reader-1\treader\n"


def test_a_short_password_is_refused_with_what_is_wanted(config):
    answer = run("user", "add", "reader-1", "--role", "reader", "--config", config, typed="short\n")
    assert isinstance(answer.exception, UserError)
    assert "12" in str(answer.exception)


def test_the_doctor_names_what_is_wrong_and_fails(config):
    answer = run("doctor", "--config", config, "--lang", "es")
    assert answer.exit_code == 2  # the PACS does not answer
    assert "qué hacer" in answer.output
    assert "4242" in answer.output


def test_rules_say_why_an_image_is_not_read(config, tmp_path):
    chest, hand = tmp_path / "chest.dcm", tmp_path / "hand.dcm"
    write(make(radiograph(1)), chest)
    write(make(radiograph(1), BodyPartExamined="HAND"), hand)
    answer = run("rules", "--config", config, chest, hand)
    assert answer.output.splitlines() == [
        f"{chest}: chest: read",
        f"{hand}: chest: not read: the body part is HAND",
    ]


def test_a_file_that_is_no_image_is_named(config, tmp_path):
    (tmp_path / "text.dcm").write_text("no image")
    answer = run("rules", "--config", config, tmp_path / "text.dcm")
    assert isinstance(answer.exception, UserError)
    assert "text.dcm" in str(answer.exception)


def test_the_audit_trail_is_checked(config, database):
    with database.transaction() as session:
        audit.record(session, audit.NODE, audit.STARTED)
        audit.record(session, audit.NODE, audit.STOPPED)
    assert run("audit", "--config", config).output == "2 lines are whole.\n"
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_refuses_update")
        connection.exec_driver_sql("UPDATE audit SET who = 'nobody' WHERE id = 1")
    answer = run("audit", "--config", config)
    assert answer.exit_code == 1
    assert "Line 1 is not as it was written." in answer.output


def test_a_trail_that_was_cut_is_told_by_a_line_that_the_log_has_noted(config, database):
    with database.transaction() as session:
        head = audit.record(session, audit.NODE, audit.STARTED)
    noted = f"{head.id}:{head.hash}"
    assert run("audit", "--config", config, "--head", noted).exit_code == 0
    later = run("audit", "--config", config, "--head", f"{head.id + 1}:{head.hash}")
    assert later.exit_code == 1
    assert "is missing" in later.output
    assert isinstance(run("audit", "--config", config, "--head", "7").exception, UserError)


def test_what_was_put_aside_is_read_again(config, database):
    with database.transaction() as session:
        study = Study(
            study_uid="1.2.3", source="web", state=QUARANTINED, version=1, images=1, first_at=0.0, last_at=0.0,
            deadline=None,
        )  # fmt: skip
        session.add(study)
        session.flush()
        session.add(
            Image(
                study_id=study.id, sop_instance_uid="1.2.3.1", sop_class_uid="1.2", series_uid="1.2.3.0",
                transfer_syntax_uid="1.2.840.10008.1.2.1", path="images/1.2.3/1.2.3.1.dcm", size=1, sha256="ab" * 32,
                source="web", received_at=0.0,
            )
        )  # fmt: skip
        session.add(
            Job(
                study_id=study.id, version=1, bundle="default", rule="chest", image_uids=["1.2.3.1"], priority=5,
                state=JOB_QUARANTINED, attempts=4, not_before=0.0, created_at=0.0,
            )
        )  # fmt: skip
    assert run("rerun", "--config", config).output == "1 to be read again.\n"
    with database.reading() as session:
        assert session.scalars(select(Job.state)).one() == JOB_WAITING
        assert session.scalars(select(Study.state)).one() == WAITING
        line = session.scalars(select(AuditEntry)).one()
    assert (line.who, line.what, line.target) == ("command line", "rerun", "1.2.3")
    unknown = run("rerun", "--config", config, "9.9.9")
    assert isinstance(unknown.exception, UserError)


def test_what_waits_for_a_destination_that_is_gone_is_given_up(config, database):
    rows = Rows(database, NodeConfiguration.read(config))
    with database.transaction() as session:
        for state in ("waiting", "sent"):
            result = rows.result(session, 1.0, image_reading(), state=DELIVERING)
            made = ResultObject(result_id=result.id, kind="sr", path="x", sha256="0")
            session.add(made)
            session.flush()
            session.add(
                Delivery(object_id=made.id, destination="old", priority=0, state=state, not_before=0.0)
            )
    mistyped = run("withhold", "odl", "--config", config).exception
    assert isinstance(mistyped, UserError)
    assert mistyped.expected == "one of old."
    assert run("withhold", "old", "--config", config).output == "2 withheld.\n"
    with database.reading() as session:
        assert set(session.scalars(select(Delivery.state))) == {DELIVERY_WITHHELD}
        assert set(session.scalars(select(Study.state))) == {DONE}
        line = session.scalars(select(AuditEntry)).one()
    assert (line.who, line.what, line.detail) == ("command line", audit.WITHHELD, "2 deliveries to old")
    assert run("withhold", "pacs", "--config", config).output == "0 withheld.\n"
