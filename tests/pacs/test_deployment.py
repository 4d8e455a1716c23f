"""What ships beside the code: the compose file, its configuration, the unit of systemd."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from freezeframe.pacs.configuration import NodeConfiguration

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
UNIT = ROOT / "systemd/freezeframe-node.service"


def test_the_node_of_the_compose_file_has_a_valid_configuration_and_begins_in_shadow_mode():
    configuration = NodeConfiguration.read(ROOT / "docker/node.yaml")
    assert configuration.shadow
    secrets = COMPOSE["services"]["node"]["secrets"]
    assert configuration.database_password_file == Path("/run/secrets") / secrets[0]


def test_node_and_orthanc_know_each_other():
    configuration = NodeConfiguration.read(ROOT / "docker/node.yaml")
    orthanc = json.loads((ROOT / "docker/orthanc.json").read_text())
    services = COMPOSE["services"]
    (modality,) = orthanc["DicomModalities"].values()
    assert modality["AET"] == configuration.ae_title
    assert modality["Host"] == services["node"]["networks"]["inside"]["ipv4_address"]
    (peer,) = configuration.peers
    assert peer.ae_titles == (orthanc["DicomAet"],)
    assert peer.networks == (services["orthanc"]["networks"]["inside"]["ipv4_address"],)


@pytest.mark.parametrize("name", ["node", "orthanc", "database"])
def test_no_container_gets_privileges(name):
    service = COMPOSE["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")


@pytest.mark.parametrize("name", ["node", "database"])
def test_state_is_only_in_volumes_and_nobody_is_root(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["user"] not in ("root", "0")


def test_only_this_machine_reaches_what_is_published():
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_secret_is_in_the_files():
    for path in (ROOT / "docker").iterdir():
        if path.is_file():
            assert not re.search(r"(?i)password[\"']?\s*[:=]\s*[\"'][^\"'{$]", path.read_text()), path.name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_the_unit_is_understood_by_systemd_and_exposes_little(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    verified = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert verified.stderr == ""
    analysed = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", unit],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"exposure level[^:]*: ([0-9.]+)", analysed.stdout)
    assert found is not None, analysed.stderr
    assert float(found[1]) < 2
