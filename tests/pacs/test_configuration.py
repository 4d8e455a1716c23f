"""`node.yaml`: what is refused, in which words, and its documented table."""

from pathlib import Path

import pytest
import yaml

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration, WatchedFolder
from freezeframe.pacs.configuration_table import all_fields

DOCS = Path(__file__).resolve().parents[2] / "docs"
LEAST = {"folder": "data", "bundles": [{"path": "bundle"}], "rules": [{"name": "all"}]}


def refusal(**fields: object) -> str:
    with pytest.raises(UserError) as refused:
        NodeConfiguration.parse({**LEAST, **fields}, "node.yaml")
    return str(refused.value)


def test_the_documented_fields_are_the_configurations_own():
    assert all_fields() in (DOCS / "node.md").read_text(encoding="utf-8")


def test_what_is_left_out_has_a_default():
    configuration = NodeConfiguration.parse(LEAST, "node.yaml")
    assert configuration.ae_title == "FREEZEFRAME"
    assert configuration.peers == ()
    assert configuration.dicom is not None
    assert configuration.dicom.address == "127.0.0.1"


def test_a_file_that_holds_no_fields_is_refused():
    with pytest.raises(UserError, match="holds no fields"):
        NodeConfiguration.parse(["a"], "node.yaml")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ae_titel": "A"}, "ae_titel: no field 'ae_titel'; did you mean 'ae_title'?"),
        ({"dicom": {"adress": "::1"}}, "dicom.adress: no field 'adress'; did you mean 'address'?"),
        ({"bundles": [{"pth": "b"}]}, "bundles.0.pth: no field 'pth'; did you mean 'path'?"),
        (
            {"dicom": {"tls": {"certificat": "c", "key": "k"}}},
            "dicom.tls.certificat: no field 'certificat'; did you mean 'certificate'?",
        ),
        (
            {"complete_by_source": {"web": {"quiet": 1}}},
            "complete_by_source.web.quiet: no field 'quiet'; one of: quiet_seconds, at_most_seconds",
        ),
        (
            {"sources": [{"kind": "folder", "name": "a", "pathh": "b"}]},
            "sources.0.pathh: no field 'pathh'; did you mean 'path'?",
        ),
        (
            {"destinations": [{"kind": "hl7", "name": "ris", "adress": "a", "port": 1}]},
            "destinations.0.adress: no field 'adress'; did you mean 'address'?",
        ),
        ({"zzz": 1}, "zzz: no field 'zzz'; one of: schema_version, ae_title, folder"),
    ],
)
def test_a_misspelt_field_is_met_with_the_nearest_one_of_its_section(fields, said):
    assert said in refusal(**fields)


def test_the_kind_of_a_source_is_asked_for_by_its_names():
    assert "sources.0.kind: no kind 'fodler'; did you mean 'folder'?" in refusal(
        sources=[{"kind": "fodler", "name": "a"}]
    )
    assert "sources.0.kind: is missing; one of: folder, dicomweb, query" in refusal(sources=[{"name": "a"}])


def test_all_problems_are_listed_each_on_a_line():
    said = refusal(
        folder=None, dicom={"port": 70000}, peers=[{"name": "Big PACS", "ae_titles": []}], shadow="perhaps"
    )
    places = [line.strip().split(":")[0] for line in said.splitlines()[1:]]
    assert sorted(places) == ["dicom.port", "folder", "peers.0.ae_titles", "peers.0.name", "shadow"]


def test_a_list_whose_only_entry_is_wrong_is_not_called_too_short_besides():
    said = refusal(rules=[{"name": "Chest X"}])
    assert "rules.0.name: is no name" in said
    assert "at least 1" not in said


@pytest.mark.parametrize(
    "title", ["", " ", "PACS\\1", "ARCHIVE_OF_HOSPITAL", "PACS ", " PACS", "ARCHÍV", "A\tB"]
)
def test_what_is_no_ae_title_is_refused(title):
    assert "is no AE title" in refusal(ae_title=title)


@pytest.mark.parametrize("title", ["A", "PACS 1", "!-[]~", "ARCHIVE_OF_HOSPI"])
def test_an_ae_title_has_up_to_16_printable_characters(title):
    assert NodeConfiguration.parse({**LEAST, "ae_title": title}, "node.yaml").ae_title == title


@pytest.mark.parametrize("network", ["10.0", "10.0.0.0/33", "pacs.hospital.example", "10.0.0.1-9", "1::2::3"])
def test_what_is_no_network_is_refused(network):
    peer = {"name": "pacs", "ae_titles": ["PACS"], "networks": [network]}
    assert "peers.0.networks.0: is no address and no CIDR network" in refusal(peers=[peer])


def test_what_is_no_fingerprint_is_refused_and_colons_are_taken():
    peer = {"name": "pacs", "ae_titles": ["PACS"]}
    assert "is no SHA-256 fingerprint" in refusal(peers=[{**peer, "certificates": ["ab:cd"]}])
    configuration = NodeConfiguration.parse(
        {**LEAST, "peers": [{**peer, "certificates": [":".join(["AB"] * 32)]}]}, "node.yaml"
    )
    assert configuration.peers[0].certificates == ("ab" * 32,)


def test_names_that_are_given_twice_or_are_of_nothing_are_all_said():
    said = refusal(
        bundles=[{"path": "a"}, {"path": "b"}],
        rules=[{"name": "chest", "bundle": "defualt"}],
        peers=[{"name": "pacs", "ae_titles": ["PACS"]}],
        sources=[{"kind": "folder", "name": "pacs", "path": "inbox"}],
        complete_by_source={"pasc": {}},
    )
    assert "two bundles have the name 'default'" in said
    assert "two peers and sources have the name 'pacs'" in said
    assert "rule chest: no bundle 'defualt'; did you mean 'default'?" in said
    assert "complete_by_source: no source 'pasc'; did you mean 'pacs'?" in said


def written(folder: Path, content: object) -> Path:
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    content = {
        **LEAST,
        "dicom": {"tls": {"certificate": "tls/node.pem", "key": "/etc/node.key"}},
        "sources": [{"kind": "folder", "name": "inbox", "path": "../inbox"}],
    }
    configuration = NodeConfiguration.read(written(tmp_path, content))
    assert configuration.folder == tmp_path / "data"
    assert configuration.bundles[0].path == tmp_path / "bundle"
    assert configuration.dicom is not None
    assert configuration.dicom.tls is not None
    assert configuration.dicom.tls.certificate == tmp_path / "tls/node.pem"
    assert configuration.dicom.tls.key == Path("/etc/node.key")
    (source,) = configuration.sources
    assert isinstance(source, WatchedFolder)
    assert source.path == tmp_path / "../inbox"


def test_paths_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/elsewhere")
    configuration = NodeConfiguration.read(written(tmp_path, {**LEAST, "folder": "~/node"}))
    assert configuration.folder == Path("/elsewhere/node")


def test_the_bundle_of_the_command_line_serves_as_the_default_one(tmp_path):
    content = {
        **LEAST,
        "bundles": [{"name": "other", "path": "other"}, {"path": "old", "engine": "openvino"}],
    }
    configuration = NodeConfiguration.read(written(tmp_path, content), tmp_path / "new")
    assert configuration.bundle("default").path == tmp_path / "new"
    assert configuration.bundle("default").engine == "openvino"
    assert configuration.bundle("other").path == tmp_path / "other"
    without = NodeConfiguration.read(
        written(tmp_path, {"folder": "data", "rules": [{"name": "all"}]}), tmp_path / "new"
    )
    assert without.bundle("default").path == tmp_path / "new"


def test_bundles_that_are_no_list_are_refused_in_words_also_beside_one_of_the_command_line(tmp_path):
    with pytest.raises(UserError, match="bundles"):
        NodeConfiguration.read(written(tmp_path, {**LEAST, "bundles": "chest.ffb"}), tmp_path / "new")


def test_no_value_is_repeated_in_a_refusal():
    said = refusal(database=["postgresql+pg8000://node:hunter2@db/node"], audit={"syslog": "udp://secret"})
    assert "database" in said
    assert "hunter2" not in said
    assert "secret" not in said
