"""`freezeframe bundle` and the functions behind it."""

import csv
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundle.making import make_bundle
from freezeframe.bundle.codes import codes_for
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.cli.main import app
from freezeframe.verbs.bundle import codes, show

CODED = [
    {"label": "NORMAL", "code": None},
    {"label": "PNEUMONIA", "code": {"scheme": "SCT", "value": "233604007", "meaning": "Pneumonia"}},
]
KEY_PASSWORD = "FREEZEFRAME_KEY_PASSWORD"


@pytest.fixture
def bundle(tmp_path) -> Path:
    changes = {
        "classes": CODED,
        "intended": {"modalities": ["CR", "DX"], "views": ["PA"], "ages": [1, 5]},
        "parity": {"images": 1200, "largest_difference": 3.2e-7, "decisions_changed": 0},
    }
    return make_bundle(tmp_path / "bundle", changes=changes)


def run(*arguments: object, password: str | None = None, typed: str | None = None):
    words = [str(argument) for argument in arguments]
    return CliRunner(env={KEY_PASSWORD: password}).invoke(app, ["bundle", *words], input=typed)


def test_show_says_what_the_bundle_is(bundle):
    shown = show(bundle)
    facts = dict(shown.facts)
    assert facts["classes"] == "NORMAL (no code); PNEUMONIA (SCT 233604007 Pneumonia)"
    assert facts["intended for"] == "CR, DX; PA; 1 to 5 years"
    assert facts["parity: images"] == "1,200"
    assert facts["parity: largest_difference"] == "3.2e-07"
    assert facts["sha256"] == open_bundle(bundle).sha256
    assert facts["signature"] == "none"
    assert "'PNEUMONIA' from 0.500 (youden)" in facts["operating point youden (default)"]
    assert [(member.name, member.input_size, member.extras) for member in shown.members] == [
        ("member0", (32, 32), "heat maps"),
        ("member1", (32, 32), "heat maps"),
    ]


def test_the_command_prints_the_facts_and_a_row_for_each_member(bundle):
    result = run("show", bundle)
    assert result.exit_code == 0
    printed = " ".join(result.output.split())
    assert "NORMAL (no code); PNEUMONIA (SCT 233604007 Pneumonia)" in printed
    assert "member1 small float32 1.000 32 x 32" in printed


def test_a_bundle_is_made_one_file_signed_and_checked_from_the_command_line(bundle, tmp_path):
    packed, keys = tmp_path / "small.ffb", tmp_path / "keys"
    assert run("pack", bundle, "--out", packed).exit_code == 0
    assert run("keys", "--out", keys, password="secret").exit_code == 0
    assert stat.S_IMODE((keys / "bundle.key").stat().st_mode) == 0o600
    assert run("sign", packed, "--key", keys / "bundle.key", password="secret").exit_code == 0
    result = run("verify", packed, "--public-key", keys / "bundle.pub")
    assert result.exit_code == 0
    assert f"signed with the key, sha256 {open_bundle(bundle).sha256}" in result.output.replace("\n", " ")
    assert run("unpack", packed, "--out", tmp_path / "again").exit_code == 0
    assert (
        dict(show(tmp_path / "again", keys / "bundle.pub").facts)["signature"]
        == "checked with the public key"
    )
    assert dict(show(tmp_path / "again").facts)["signature"] == "there, but not checked: give --public-key"


def test_a_key_without_a_password_signs_without_asking(bundle, tmp_path):
    assert run("keys", "--out", tmp_path / "keys", "--no-password").exit_code == 0
    assert run("sign", bundle, "--key", tmp_path / "keys/bundle.key").exit_code == 0
    assert open_bundle(bundle, tmp_path / "keys/bundle.pub").signed


def test_where_nobody_can_be_asked_the_password_is_missing_and_no_key_is_made(tmp_path):
    result = run("keys", "--out", tmp_path / "keys", typed="")
    assert result.exit_code != 0
    assert "FREEZEFRAME_KEY_PASSWORD" in str(result.exception)
    assert not (tmp_path / "keys").exists()


def test_a_changed_bundle_exits_with_2_and_the_file_without_a_traceback(bundle):
    (bundle / "card.md").write_text("better")
    command = [sys.executable, "-m", "freezeframe", "bundle", "verify", str(bundle)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "300"})
    assert result.returncode == 2
    assert "card.md is changed" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_a_changed_bundle_is_not_packed(bundle, tmp_path):
    (bundle / "card.md").write_text("better")
    assert run("pack", bundle, "--out", tmp_path / "small.ffb").exit_code != 0
    assert not (tmp_path / "small.ffb").exists()


def test_the_printed_table_of_codes_is_read_back_for_the_classes(tmp_path):
    result = run("codes", "NORMAL", "PNEUMONIA", "knee")
    (tmp_path / "codes.csv").write_text(result.output)
    read = codes_for(["NORMAL", "PNEUMONIA", "knee"], tmp_path / "codes.csv")
    assert {label: code and code.value for label, code in read.items()} == {
        "NORMAL": "17621005",
        "PNEUMONIA": "233604007",
        "knee": None,
    }


def test_all_codes_are_printed_where_no_class_is_named():
    rows = list(csv.DictReader(io.StringIO(codes())))
    assert {"label", "scheme", "value", "meaning"} == set(rows[0])
    assert len(rows) > 50


def test_bundles_are_opened_without_torch_onnx_or_minisign(bundle):
    program = (
        "import sys\n"
        "from freezeframe.bundle.runtime.folder import open_bundle\n"
        f"open_bundle({str(bundle)!r})\n"
        "assert not {'torch', 'onnx', 'minisign', 'onnxruntime'} & set(sys.modules)\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_without_the_package_a_signature_says_what_to_install(bundle):
    program = (
        "import sys\n"
        "sys.modules['minisign'] = None\n"
        "from freezeframe.bundle.runtime.folder import open_bundle\n"
        f"open_bundle({str(bundle)!r})\n"
        "from freezeframe.bundle.runtime.signature import check_signature\n"
        "check_signature(b'', b'', 'RW', 'bundle')\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "freezeframe[node]" in answer.stderr
