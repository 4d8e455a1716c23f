"""kill -9 of node, worker and database while studies stream in: nothing acknowledged is lost, each is answered once."""

import os
import random
import threading
import time
from collections import Counter

import pytest
from postgresql import PostgreSql
from pydicom import dcmread
from result_peer import result_peer
from running_node import RunningNode, film, send_until_acknowledged
from sqlalchemy import select
from waiting import eventually

from freezeframe.pacs.database import open_database
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import DONE, Image, Result, Study

STUDIES, FILMS = 40, 2
KILLS = int(os.environ.get("FREEZEFRAME_TEST_KILLS", "30"))


def outcomes(database) -> dict[str, tuple]:
    """Return of each study what a reader sees: its state, its images, and its current results."""
    with database.reading() as session:
        found = {}
        for study in session.scalars(select(Study)):
            images = session.scalars(select(Image.sop_instance_uid).where(Image.study_id == study.id)).all()
            results = session.scalars(select(Result).where(Result.study_id == study.id, Result.current)).all()
            found[study.study_uid] = (
                study.state,
                sorted(images),
                [(result.outcome, round(result.probability, 6)) for result in results],
                [
                    sorted(image["sop_instance_uid"] for image in result.reading["images"])
                    for result in results
                ],
            )
        return found


def all_done(database) -> bool:
    with database.reading() as session:
        states = Counter(session.scalars(select(Study.state)))
    return states == {DONE: STUDIES}


def stream(node: RunningNode, pause: float) -> threading.Thread:
    """Send all studies from a thread, film by film, with retries."""

    def go() -> None:
        for study in range(1, STUDIES + 1):
            send_until_acknowledged(node.dicom_port, [film(study, number) for number in range(1, FILMS + 1)])
            time.sleep(pause)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, small_bundle):
    """What a node that nobody kills makes of the studies."""
    folder = tmp_path_factory.mktemp("unbroken")
    with result_peer() as peer:
        node = RunningNode(folder, small_bundle, destinations=[peer.destination()]).start()
        try:
            stream(node, 0).join(300)
            database = open_database(node.configuration)
            eventually(lambda: all_done(database), 300)
            found = outcomes(database)
            database.close()
        finally:
            assert node.stop() == 0
    assert all(len(results) == 1 for _, _, results, _ in found.values())
    return found


@pytest.mark.slow
def test_killed_at_random_moments_the_node_ends_where_an_unbroken_one_does(tmp_path, small_bundle, unbroken):
    chance = random.Random(11)
    server = PostgreSql(durable=True)
    kills: Counter[str] = Counter()
    try:
        with result_peer() as peer:
            node = RunningNode(
                tmp_path, small_bundle, database=server.new_database(), destinations=[peer.destination()],
                limits={"first_wait": 0.5, "longest_wait": 2, "attempts": 50, "lease_seconds": 2},
            ).start()  # fmt: skip
            try:
                sender = stream(node, 0.3)
                for _ in range(KILLS):
                    time.sleep(chance.uniform(0.05, 1.5))
                    victim = chance.choices(("node", "worker", "database"), (5, 3, 2))[0]
                    if victim == "node":
                        node.kill()
                        node.start()
                    elif victim == "database":
                        server.kill()
                        server.start()
                    elif not node.kill_a_worker():
                        continue
                    kills[victim] += 1
                sender.join(600)
                assert not sender.is_alive(), "not everything was taken"
                database = open_database(node.configuration)
                eventually(lambda: all_done(database), 300)
                found = outcomes(database)
                assert audit.verify(database).broken is None
                database.close()
            finally:
                node.stop()
    finally:
        server.close()
    assert set(kills) == {"node", "worker", "database"}
    assert found == unbroken
    assert peer.twice == []
    kept = {
        dcmread(path, stop_before_pixels=True).SOPInstanceUID
        for path in (tmp_path / "node/images").rglob("*.dcm")
    }
    assert kept == {uid for _, images, _, _ in found.values() for uid in images}
