"""A whole node beside a real PACS: what comes in is answered, in every way that a hospital may connect it."""

import socket
import subprocess
import sys
import threading

import httpx
import pytest
from certificates import Authority
from pydicom.filebase import DicomBytesIO
from result_peer import result_peer
from running_node import AE_TITLE, RunningNode, film, send, send_until_acknowledged
from sqlalchemy import select
from waiting import eventually

from freezeframe.pacs.database import open_database
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import DELIVERY_WITHHELD, DONE, IGNORED, Delivery, Result, Study
from freezeframe.pacs.trial.orthanc import ServerTls, orthanc


def written(image) -> bytes:
    buffer = DicomBytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def to(pacs, **fields):
    return {
        "kind": "dicom", "name": "pacs", "ae_title": pacs.ae_title, "address": "127.0.0.1", "port": pacs.dicom_port,
        **fields,
    }  # fmt: skip


def states(node: RunningNode) -> list[str]:
    database = open_database(node.configuration)
    with database.reading() as session:
        found = list(session.scalars(select(Study.state).order_by(Study.id)))
    database.close()
    return found


def modalities(pacs) -> list[str]:
    return sorted(
        pacs.rest(f"/instances/{one}/simplified-tags")["Modality"] for one in pacs.instances().values()
    )


def test_a_study_that_the_pacs_sends_on_is_answered_in_the_pacs_by_dimse_and_by_dicomweb(
    tmp_path, small_bundle
):
    with orthanc(tmp_path) as pacs:
        (tmp_path / "password").write_text(pacs.auth[1])
        web = {"kind": "dicomweb", "name": "web", "url": pacs.web_url, "user": pacs.auth[0]}
        destinations = [
            to(pacs, commitment=True, objects=["sr"]), {**web, "password_file": "password", "objects": ["sc"]}
        ]  # fmt: skip
        node = RunningNode(tmp_path, small_bundle, destinations=destinations).start()
        try:
            pacs.add_modality(AE_TITLE, node.dicom_port)
            for number in (1, 2):
                pacs.rest("/instances", "POST", written(film(1, number)))
            study = pacs.rest("/studies")[0]
            pacs.rest(f"/modalities/{AE_TITLE}/store", "POST", [study])
            eventually(lambda: states(node) == [DONE], 120)
            assert modalities(pacs) == ["DX", "DX", "OT", "OT", "SR"]
            assert pacs.rest("/studies") == [study]  # in the same study
            database = open_database(node.configuration)
            with database.reading() as session:
                assert session.scalars(select(Delivery.state)).all() == ["done"] * 3
                assert session.scalars(select(Result.version)).all() == [1]
            assert audit.verify(database).broken is None
            database.close()
            assert httpx.get(f"http://127.0.0.1:{node.web_port}/api/studies").status_code == 401
            assert httpx.get(f"http://127.0.0.1:{node.web_port}/health/ready").json()["status"] == "ready"
        finally:
            assert node.stop() == 0


def test_all_of_it_goes_over_tls_with_certificates_of_both_sides(tmp_path, small_bundle):
    authority = Authority(tmp_path / "certificates")
    theirs, ours = authority.sign("pacs"), authority.sign("node")
    tls = {"certificate": str(ours.certificate), "key": str(ours.key), "authority": str(ours.authority)}
    with orthanc(tmp_path, tls=ServerTls(theirs.certificate, theirs.key, theirs.authority)) as pacs:
        peer = {"name": "pacs", "ae_titles": [pacs.ae_title], "certificates": [theirs.sha256]}
        node = RunningNode(
            tmp_path,
            small_bundle,
            dicom={"port": 0, "tls": tls},
            peers=[peer],
            destinations=[to(pacs, tls=tls)],
        ).start()
        try:
            pacs.add_modality(AE_TITLE, node.dicom_port, tls=True)
            pacs.rest("/instances", "POST", written(film(1, 1)))
            pacs.rest(f"/modalities/{AE_TITLE}/store", "POST", pacs.rest("/instances"))
            eventually(lambda: states(node) == [DONE], 120)
            assert modalities(pacs) == ["DX", "OT", "SR"]
            assert send(node.dicom_port, [film(2, 1)]) == []  # without TLS
        finally:
            assert node.stop() == 0


def test_in_shadow_mode_everything_is_read_and_nothing_leaves_nor_can_others_read_it(tmp_path, small_bundle):
    (tmp_path / "node").mkdir(mode=0o755)  # as an administrator makes it
    with result_peer() as peer:
        node = RunningNode(tmp_path, small_bundle, shadow=True, destinations=[peer.destination()]).start()
        try:
            send_until_acknowledged(node.dicom_port, [film(1, 1)])
            eventually(lambda: states(node) == [DONE], 120)
            database = open_database(node.configuration)
            with database.reading() as session:
                assert session.scalars(select(Result.outcome)).all() != []
                assert set(session.scalars(select(Delivery.state))) == {DELIVERY_WITHHELD}
            database.close()
            assert peer.objects == {}
            below = [path for path in (tmp_path / "node").rglob("*") if path.stat().st_mode & 0o077]
            assert below == []
        finally:
            assert node.stop() == 0


def test_a_late_image_makes_a_new_version_of_the_result(tmp_path, small_bundle):
    with result_peer() as peer:
        node = RunningNode(tmp_path, small_bundle, destinations=[peer.destination(objects=["sr"])]).start()
        try:
            send_until_acknowledged(node.dicom_port, [film(1, 1)])
            eventually(lambda: len(peer.objects) == 1, 120)
            send_until_acknowledged(node.dicom_port, [film(1, 2)])
            eventually(lambda: len(peer.objects) == 2, 120)
            eventually(lambda: states(node) == [DONE], 60)
            database = open_database(node.configuration)
            with database.reading() as session:
                found = session.execute(select(Result.version, Result.current).order_by(Result.id)).all()
            database.close()
            assert found == [(1, False), (2, True)]
        finally:
            assert node.stop() == 0


def test_what_the_pacs_took_while_the_node_was_down_is_pulled_when_it_is_back(tmp_path, small_bundle):
    with orthanc(tmp_path, {AE_TITLE: 0}) as pacs:
        (tmp_path / "password").write_text(pacs.auth[1])
        source = {
            "kind": "dicomweb", "name": "archive", "url": pacs.web_url, "user": pacs.auth[0], "seconds": 0.5,
            "password_file": "password", "modalities": ["DX"], "days_back": 36500,
        }  # fmt: skip
        node = RunningNode(tmp_path, small_bundle, sources=[source], destinations=[to(pacs, objects=["sr"])])
        node.start()
        try:
            pacs.rest("/instances", "POST", written(film(1, 1)))
            eventually(lambda: modalities(pacs) == ["DX", "SR"], 120)
            node.kill()
            pacs.rest("/instances", "POST", written(film(2, 1)))
            node.start()
            eventually(lambda: modalities(pacs) == ["DX", "DX", "SR", "SR"], 120)
            eventually(lambda: states(node) == [DONE, DONE], 60)
        finally:
            assert node.stop() == 0


def test_a_study_that_no_rule_wants_is_kept_and_not_read(tmp_path, small_bundle):
    node = RunningNode(tmp_path, small_bundle, rules=[{"name": "hands", "body_part": ["HAND"]}]).start()
    try:
        send_until_acknowledged(node.dicom_port, [film(1, 1)])
        eventually(lambda: states(node) == [IGNORED], 60)
        database = open_database(node.configuration)
        with database.reading() as session:
            reason = session.scalars(select(Study.reason)).one()
        database.close()
        assert "the body part is CHEST" in reason
    finally:
        assert node.stop() == 0


def test_parts_of_it_run_alone_and_a_second_one_in_the_folder_is_refused(tmp_path, small_bundle):
    with result_peer() as peer:
        node = RunningNode(tmp_path, small_bundle, destinations=[peer.destination()]).start(
            "--only", "intake"
        )
        try:
            send_until_acknowledged(node.dicom_port, [film(1, 1)])
            command = [sys.executable, "-m", "freezeframe", "node", "--config", str(node.config)]
            second = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert second.returncode == 2
            assert "Another node" in second.stderr
            rest = subprocess.Popen([*command, "--only", "reading", "--only", "delivery"])
            try:
                eventually(lambda: len(peer.objects) == 2, 120)
            finally:
                rest.terminate()
                assert rest.wait(60) == 0
        finally:
            assert node.stop() == 0


@pytest.mark.parametrize("part", ["dicom", "web"])
def test_a_port_that_is_taken_is_said_and_nothing_runs_on(tmp_path, small_bundle, part):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = RunningNode(tmp_path, small_bundle, **{part: {"port": port}})
        command = [sys.executable, "-m", "freezeframe", "node", "--config", str(node.config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2, ended.stderr
    assert f"{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_twenty_senders_at_once_are_all_answered(tmp_path, small_bundle):
    with result_peer() as peer:
        node = RunningNode(tmp_path, small_bundle, destinations=[peer.destination(objects=["sr"])]).start()
        try:
            threads = [
                threading.Thread(target=send_until_acknowledged, args=(node.dicom_port, [film(study, 1)]))
                for study in range(1, 21)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(300)
            eventually(lambda: states(node) == [DONE] * 20, 300)
            assert len({one.StudyInstanceUID for one in peer.objects.values()}) == len(peer.objects) == 20
        finally:
            assert node.stop() == 0


@pytest.mark.slow
def test_in_an_environment_without_torch_it_answers(tmp_path, small_bundle, node):
    checked = subprocess.run(
        [node / "python", "-c", "import importlib.util as u; print(u.find_spec('torch'))"],
        capture_output=True,
        text=True,
    )
    assert checked.stdout.strip() == "None"
    with result_peer() as peer:
        running = RunningNode(tmp_path, small_bundle, destinations=[peer.destination(objects=["sr"])])
        running.start(python=node / "python")
        try:
            send_until_acknowledged(running.dicom_port, [film(1, 1)])
            eventually(lambda: len(peer.objects) == 1, 120)
        finally:
            assert running.stop() == 0
