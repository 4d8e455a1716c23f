"""The demo of the node, as `make demo-pacs` runs it."""

import os
import subprocess
import sys

import pytest

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.verbs.demo_pacs import demo_pacs


def test_a_bundle_that_is_not_there_is_named_before_anything_is_started(tmp_path):
    with pytest.raises(UserError, match="There is no bundle"):
        demo_pacs(tmp_path / "demo", tmp_path / "nothing")
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_synthetic_studies_go_through_pacs_and_node_and_their_results_come_back(tmp_path, small_bundle):
    words = ["demo-pacs", "--out", tmp_path / "demo", "--bundle", small_bundle, "--patients", 4, "--no-stay"]
    done = subprocess.run(
        [sys.executable, "-m", "freezeframe", *map(str, words)],
        capture_output=True, text=True, timeout=500, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert "5 studies were read" in said  # one of four people has a second film
    assert "the PACS has 10 result objects" in said
    assert "The page: http://127.0.0.1:" in said
    [place] = (tmp_path / "demo" / "running").iterdir()
    assert NodeConfiguration.read(place / "node.yaml").destinations[0].name == "pacs"
    assert "Traceback" not in (place / "node.log").read_text()
    assert (place / "node" / "node.lock").exists()
