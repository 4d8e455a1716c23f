"""kill -9 of the delivering process at random moments: nothing is lost, and nothing is in the PACS twice."""

import multiprocessing
import random
import time

import pytest
from delivering_process import deliver_for_ever
from outgoing import dicom, node_of, object_uid, read_study, states, study_state

from freezeframe.pacs.database import open_database
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import DONE
from freezeframe.pacs.trial.orthanc import orthanc

STUDIES, KILLS, LEASE_SECONDS = 24, 12, 1.0


@pytest.mark.slow
def test_killed_at_random_moments_everything_arrives_once(tmp_path):
    chance = random.Random(5)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["delivering_process"])
    with orthanc(tmp_path, {"FREEZEFRAME": 0}) as pacs:
        (tmp_path / "password").write_text(pacs.auth[1])
        web = {"kind": "dicomweb", "name": "web", "url": pacs.web_url, "user": pacs.auth[0]}
        node = node_of(
            tmp_path / "node",
            [
                dicom("pacs", pacs.dicom_port, objects=["sr"]),
                web | {"password_file": str(tmp_path / "password"), "objects": ["sc"]},
            ],
            limits={"first_wait": 0.2, "longest_wait": 1},
        )
        database = open_database(node)
        read: list[str] = []
        killed_in_time = 0
        try:
            for _ in range(KILLS):
                for _ in range(STUDIES // KILLS):
                    read.append(read_study(database, node, len(read) + 1, now=time.time()))
                process = processes.Process(target=deliver_for_ever, args=(node, LEASE_SECONDS))
                process.start()
                process.join(chance.uniform(0.02, 0.6))
                killed_in_time += "waiting" in states(database)
                process.kill()
                process.join(60)
            process = processes.Process(target=deliver_for_ever, args=(node, LEASE_SECONDS))
            process.start()
            try:
                deadline = time.monotonic() + 180
                while any(study_state(database, uid) != DONE for uid in read):
                    assert time.monotonic() < deadline, states(database)
                    time.sleep(0.1)
            finally:
                process.kill()
                process.join(60)
            assert killed_in_time >= 3  # of the kills, so many came while something was to be sent
            assert states(database) == ["done"] * (2 * STUDIES)
            assert set(pacs.instances()) == {
                object_uid(uid, 1, kind) for uid in read for kind in ("sr", "sc")
            }
            assert pacs.rest("/statistics")["CountInstances"] == 2 * STUDIES
            assert audit.verify(database).lines == 2 * STUDIES
        finally:
            database.close()
