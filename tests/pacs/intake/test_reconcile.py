"""What is put right at the start."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from configured import configured
from small_images import as_bytes, make_image
from sqlalchemy import delete, select

from freezeframe.pacs.configuration import Retention
from freezeframe.pacs.database import open_database
from freezeframe.pacs.intake.keeping import Keeper, Origin
from freezeframe.pacs.intake.reconcile import RECOVERED, Reconciled, reconcile
from freezeframe.pacs.reading import queue
from freezeframe.pacs.studies.completion import complete_due
from freezeframe.pacs.studies.lost import LOST
from freezeframe.pacs.tables import Image, Job, Refused, Study


class Node:
    def __init__(self, folder: Path) -> None:
        self.configuration = configured(folder / "node", retention={"least_free_gigabytes": 0})
        self.database = open_database(self.configuration)
        self.keeper = Keeper(self.database, self.configuration)

    def receive(self, image) -> Path:
        path = self.keeper.new_file()
        path.write_bytes(as_bytes(image))
        self.keeper.keep(path, Origin("pacs", "PACS"))
        return self.path(image)

    def path(self, image) -> Path:
        return self.configuration.folder / "images" / image.StudyInstanceUID / f"{image.SOPInstanceUID}.dcm"

    def reconcile(self, now: float = 5e9) -> Reconciled:
        return reconcile(self.database, self.configuration, now)

    def complete(self, now: float = 6e9) -> int:
        return complete_due(self.database, self.configuration, now)

    def all(self, table) -> list:
        with self.database.reading() as session:
            return list(session.scalars(select(table).order_by(table.id)))


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    made.database.close()


def test_where_all_is_well_nothing_is_done(node):
    path = node.receive(make_image())
    before = node.all(Study)[0]
    assert node.reconcile() == Reconciled()
    after = node.all(Study)[0]
    assert (after.state, after.deadline, after.images) == (before.state, before.deadline, 1)
    assert path.exists()


def test_a_full_disk_does_not_keep_the_node_from_starting(node):
    path = node.receive(make_image())
    with node.database.transaction() as session:
        session.execute(delete(Image))
    full = node.configuration.model_copy(update={"retention": Retention(least_free_gigabytes=1e9)})
    assert reconcile(node.database, full, 5e9) == Reconciled()
    assert path.exists()


def test_leftovers_of_transfers_are_removed(node):
    (node.configuration.folder / "incoming" / "x.partial").write_bytes(b"half")
    assert node.reconcile() == Reconciled(leftovers=1)
    assert list((node.configuration.folder / "incoming").iterdir()) == []


def test_a_file_whose_row_was_never_written_is_kept(node):
    image = make_image()
    path = node.receive(image)
    content = path.read_bytes()
    with node.database.transaction() as session:
        session.execute(delete(Image))
        session.execute(delete(Study))
    assert node.reconcile() == Reconciled(kept=1)
    (row,) = node.all(Image)
    assert (row.sop_instance_uid, row.source) == (image.SOPInstanceUID, RECOVERED)
    assert path.read_bytes() == content
    assert node.all(Study)[0].deadline is not None


def test_a_file_without_a_row_that_is_no_image_is_removed(node):
    path = node.configuration.folder / "images" / "1.2.3" / "1.2.3.4.dcm"
    path.parent.mkdir()
    path.write_bytes(b"nothing")
    assert node.reconcile() == Reconciled(dropped=1)
    assert not path.exists()


def test_a_file_that_retention_was_about_to_remove_is_removed(node):
    path = node.receive(make_image())
    with node.database.transaction() as session:
        session.scalars(select(Image)).one().deleted_at = 1.0
    assert node.reconcile() == Reconciled(dropped=1)
    assert not path.exists()
    assert len(node.all(Image)) == 1


def test_an_image_that_is_gone_is_said_and_its_study_put_aside(node, caplog):
    node.receive(make_image(1, 1))
    node.receive(make_image(1, 2)).unlink()
    node.receive(make_image(2))
    assert node.reconcile() == Reconciled(missing=1)
    hurt, well = node.all(Study)
    assert (hurt.state, hurt.deadline) == ("quarantined", None)
    assert hurt.reason.startswith(f"{LOST}: 1.")
    assert well.state == "receiving"
    assert "A study has lost images." in [
        record.message for record in caplog.records if record.levelname == "ERROR"
    ]


def test_a_reading_of_a_study_that_has_lost_images_does_not_begin(node):
    path = node.receive(make_image())
    node.complete()
    path.unlink()
    node.reconcile()
    assert [job.state for job in node.all(Job)] == ["quarantined"]


def test_a_reading_in_hand_when_images_were_lost_neither_counts_nor_comes_back(node):
    # A power cut loses the newest image of a study whose reading had begun without it, or with it.
    node.receive(make_image(1, 1))
    path = node.receive(make_image(1, 2))
    node.complete()
    held = queue.claim(node.database, "worker", 30, 6e9)
    assert held is not None
    path.unlink()
    node.reconcile()
    assert queue.return_claims(node.database, "worker", node.configuration.limits, 6e9) == 0
    with node.database.transaction() as session:
        assert not queue.finish(session, held, 6e9)
    assert [job.state for job in node.all(Job)] == ["quarantined"]
    (study,) = node.all(Study)
    assert study.state == "quarantined"
    assert study.reason.startswith(LOST)


def test_an_image_that_is_damaged_is_put_aside(node):
    path = node.receive(make_image())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert node.reconcile() == Reconciled(damaged=1)
    assert node.all(Study)[0].state == "quarantined"
    (refused,) = node.all(Refused)
    assert refused.sha256 == hashlib.sha256(content).hexdigest()
    assert not path.exists()


@pytest.mark.parametrize("read_before", [False, True])
def test_a_study_whose_lost_images_were_sent_again_is_read_after_the_next_start(node, read_before):
    path = node.receive(make_image())
    if read_before:
        node.complete()
    path.unlink()
    node.reconcile()
    assert node.reconcile() == Reconciled(missing=1)
    node.receive(make_image())
    assert node.reconcile() == Reconciled(restored=1)
    assert node.complete() == 1
    assert node.all(Study)[0].state == "waiting"
    assert node.all(Job)[-1].state == "waiting"


@pytest.mark.parametrize("state", ["waiting", "reading"])
def test_a_study_that_waits_for_nothing_is_looked_at_again(node, state):
    node.receive(make_image())
    node.complete()
    with node.database.transaction() as session:
        session.scalars(select(Job)).one().state = "done"
        session.scalars(select(Study)).one().state = state
    assert node.reconcile() == Reconciled(freed=1)
    node.complete()
    assert (node.all(Study)[0].state, len(node.all(Job))) == ("done", 1)


def test_a_study_that_is_being_read_is_left_alone(node):
    node.receive(make_image())
    node.complete()
    with node.database.transaction() as session:
        session.scalars(select(Job)).one().state = "claimed"
        session.scalars(select(Study)).one().state = "reading"
    assert node.reconcile() == Reconciled()
    assert node.all(Study)[0].state == "reading"


CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_reconcile import Node
from small_images import make_image
node = Node(Path(sys.argv[2]))
for number in range(10_000):
    node.receive(make_image(number % 5, number))
    print(json.dumps(make_image(number % 5, number).SOPInstanceUID), flush=True)
"""


@pytest.mark.parametrize("number", [3, 40])
def test_after_a_kill_all_that_was_acknowledged_is_there_and_nothing_is_without_a_row(tmp_path, number):
    here = Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(here), str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(here.parent)},
    )
    assert child.stdout is not None
    acknowledged = [json.loads(child.stdout.readline()) for _ in range(number)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [json.loads(line) for line in child.stdout.read().splitlines() if line.endswith(b'"')]
    child.wait(60)
    child.stdout.close()
    node = Node(tmp_path)
    found = node.reconcile()
    assert (found.missing, found.damaged, found.dropped) == (0, 0, 0)
    rows = {row.sop_instance_uid: row.path for row in node.all(Image)}
    assert set(acknowledged) <= set(rows)
    places = {
        f"images/{path.parent.name}/{path.name}"
        for path in (node.configuration.folder / "images").glob("*/*")
    }
    assert set(rows.values()) == places
    assert node.reconcile() == Reconciled()
    node.database.close()
