"""The conformance statement says what the code offers."""

import re
from pathlib import Path

import pytest
from pydicom.uid import UID

from freezeframe.pacs.delivery.dicom_sender import COMMITMENT
from freezeframe.pacs.intake import commands
from freezeframe.pacs.intake.offered import IMPLEMENTATION_CLASS_UID, TRANSFER_SYNTAXES, contexts
from freezeframe.pacs.intake.upper_layer import LARGEST_BODY, MAXIMUM_PDU
from freezeframe.pacs.results import making

STATEMENT = (Path(__file__).resolve().parents[2] / "docs/conformance.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    section = STATEMENT.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group().splitlines()[2:]]


def test_the_sop_classes_that_are_accepted_are_those_of_the_code():
    offered = contexts(("echo", "store"), True)
    assert [uid for _, uid, _ in rows("#### 3.2.1 SOP classes")] == [
        context.abstract_syntax for context in offered
    ]


def test_the_transfer_syntaxes_are_those_of_the_code_in_its_order():
    assert [uid for _, uid in rows("#### 3.2.2 Transfer syntaxes")] == [str(uid) for uid in TRANSFER_SYNTAXES]


def test_the_sop_classes_of_results_are_those_that_are_made():
    made = {str(value) for name, value in vars(making).items() if name.endswith("Storage")}
    sent = [uid for _, uid, _ in rows("#### 3.3.1 Results: C-STORE")]
    assert set(sent) == made | {str(COMMITMENT)}
    assert len(sent) == 4


@pytest.mark.parametrize(
    "heading", ["#### 3.2.1 SOP classes", "#### 3.2.2 Transfer syntaxes", "#### 3.3.1 Results: C-STORE"]
)
def test_every_uid_stands_beside_its_name(heading):
    for name, uid, *_ in rows(heading):
        assert UID(uid).name == name


def test_the_status_codes_are_those_of_the_code():
    told = {int(status, 16) for status, *_ in rows("#### 3.2.3 Storage: status codes")}
    known = {
        commands.SUCCESS, commands.OUT_OF_RESOURCES, commands.MISMATCH, commands.CANNOT_UNDERSTAND,
        commands.OTHER_BYTES, commands.TOO_LARGE, commands.INVALID_INSTANCE, commands.CLASS_NOT_SUPPORTED,
        commands.UNRECOGNISED_OPERATION,
    }  # fmt: skip
    assert told == known


def test_what_is_announced_in_an_association_is_the_codes():
    policies = dict(rows("### 3.1 Association policies"))
    assert policies["Implementation class UID"] == f"`{IMPLEMENTATION_CLASS_UID}`"
    assert f"{MAXIMUM_PDU:,} bytes" in policies["Maximum PDU, announced as acceptor"]
    assert f"up to {LARGEST_BODY:,}" in policies["Maximum PDU, announced as acceptor"]
