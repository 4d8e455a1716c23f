"""The command line as a user meets it: messages and exit codes of real processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "freezeframe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("data: x\nbakbone: resnet18\n", "did you mean 'backbone'?"),
        ("data: missing/\nbackbone: efficientnet-lite0\n", "missing"),
        ("- a list\n", "holds no recipe"),
        ("data: [\n", "can't be read as YAML"),
    ],
    ids=["misspelt", "no-data", "no-recipe", "no-yaml"],
)
def test_a_users_mistake_is_explained_without_a_traceback_and_exits_with_2(tmp_path, recipe, message):
    (tmp_path / "recipe.yaml").write_text(recipe)
    result = run("train", "recipe.yaml", folder=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_the_verbs_that_need_no_torch_start_without_it(tmp_path):
    code = (
        "import sys; from freezeframe.cli.main import app; app(['recipe'], standalone_mode=False); "
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "`backbone`" in result.stdout


def test_two_processes_share_one_store_and_compute_each_activation_once(radiographs, tmp_path):
    fields = f"""
data: {radiographs}
backbone: efficientnet-lite0
preprocess: [{{resize: {{size: 96}}}}]
augment: flip
views: 3
epochs: 3
store: {tmp_path / "store"}
"""
    (tmp_path / "recipe.yaml").write_text(fields)
    command = [sys.executable, "-m", "freezeframe", "train", "recipe.yaml", "--out"]
    both = [
        subprocess.Popen([*command, name], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    best = [(tmp_path / name / "checkpoints" / "best.safetensors").read_bytes() for name in ("one", "two")]
    assert best[0] == best[1]
    (pack,) = (tmp_path / "store" / "activations").iterdir()
    keys = [key for path in pack.glob("segment-*.keys") for key in json.loads(path.read_text())]
    assert len(keys) == len(set(keys)) > 80
