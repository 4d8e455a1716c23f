"""Result objects in programs of others: a PACS that stores them, and a reader of structured reports."""

import subprocess
from io import BytesIO

import readings
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import dcmread

from freezeframe.pacs.trial.orthanc import orthanc


def test_a_pacs_gives_the_objects_back_as_they_were_made(folder, heat_maps, tmp_path):
    path = readings.phantom("CR", folder / "name.dcm", readings.JAPANESE_HEADER)
    made = readings.make(folder, path, heat_maps=heat_maps, language="es")
    assert [one.kind for one in made] == ["sr", "sc", "gsps"]
    with orthanc(tmp_path) as pacs:
        client = DICOMwebClient(pacs.web_url, session=create_session_from_user_pass(*pacs.auth))
        for one in made:
            client.store_instances([dcmread(BytesIO(one.content))])
            assert pacs.file(one.sop_instance_uid) == one.content
            expected = dcmread(BytesIO(one.content))
            retrieved = client.retrieve_instance(
                expected.StudyInstanceUID, expected.SeriesInstanceUID, expected.SOPInstanceUID
            )
            assert retrieved == expected
        (study,) = client.search_for_studies(fields=["PatientName"])
        assert study["00100010"]["Value"][0]["Alphabetic"] == "Yamada^Tarou"
        assert set(study["00080061"]["Value"]) == {"SR", "OT", "PR"}


def test_a_foreign_reader_of_reports_understands_one(folder, radiographs, tmp_path):
    path = tmp_path / "report.dcm"
    path.write_bytes(readings.make(folder, radiographs["DX"])[0].content)
    done = subprocess.run(["/usr/bin/dsrdump", path], capture_output=True, text=True, timeout=60, check=True)
    assert 'NUM:(,,"Certainty of Finding")="87.0" (%,UCUM,"Percent")' in done.stdout
    assert 'CODE:(,,"Finding")=(233604007,SCT,"Pneumonia")' in done.stdout
    assert 'UIDREF:(,,"Device Observer UID")' in done.stdout
    assert not [line for line in done.stderr.splitlines() if line.startswith("E:")]
