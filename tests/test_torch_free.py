"""`freezeframe[node]`, which is all that a hospital installs, has no torch and gives torch's answers."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bundle.making import make_bundle, make_contents

SIZE = 96
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory, shared_data) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for path in sorted((shared_data / "kermany/compact_224/val").rglob("*.jpeg"))[::3]:
        shutil.copy(path, folder)
    shutil.copy(shared_data / "dicom/chest_cr/cr_mono1_10bit_explicit_le.dcm", folder)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle of a real network, exported here."""
    from freezeframe.backbones import zoo
    from freezeframe.bundle.graphs import graph_of

    made = zoo.build("resnet18", 2, "none", announce=False, seed=1)
    graph = graph_of(made.module.eval(), made.head, (SIZE, SIZE))
    assert graph.heat is not None
    assert not graph.heat_is_graph
    name = make_contents(members=1)["members"][0]["graph"]
    heat = make_contents(members=1)["members"][0]["heat"]
    return make_bundle(
        tmp_path_factory.mktemp("bundle") / "real",
        members=1,
        size=SIZE,
        more={name: graph.model, heat: graph.heat},
    )


def with_torch(images: list[str]) -> np.ndarray:
    """The same network's probabilities (N, 2), by torch."""
    import torch

    from freezeframe.backbones import zoo
    from freezeframe.imaging.preprocess import Preprocessing, prepare_image
    from freezeframe.imaging.worker_process import Reference

    preprocessing = Preprocessing.from_dict(make_contents(size=SIZE)["members"][0]["preprocessing"])
    network = zoo.build("resnet18", 2, "none", announce=False, seed=1).module.eval()
    prepared = [prepare_image(Reference(Path(name), 0), preprocessing=preprocessing) for name in images]
    inputs = np.concatenate([preprocessing.normalise(pixels[None]) for pixels in prepared])
    with torch.inference_mode():
        return network(torch.from_numpy(inputs)).softmax(1).numpy()


def run(node: Path, *words: object, folder: Path) -> subprocess.CompletedProcess:
    # From an empty folder, so that nothing of the checkout is found.
    return subprocess.run(
        [node / "freezeframe", *map(str, words)], capture_output=True, text=True, check=False, cwd=folder
    )


def test_torch_is_not_there(node, tmp_path):
    program = "import importlib.util as u; print([n for n in ('torch', 'timm', 'lightning', 'onnx') if u.find_spec(n)])"
    said = subprocess.check_output([node / "python", "-c", program], text=True, cwd=tmp_path)
    assert said.strip() == "[]"


def test_the_answers_are_those_of_torch(node, bundle, images, tmp_path):
    done = run(
        node, "predict", bundle, images, "--out", "answers.csv", "--heat-maps", "maps", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "answers.csv")
    assert len(table) == len(list(images.iterdir()))
    assert table["error"].dropna().tolist() == []
    expected = with_torch(table["image"].tolist())
    assert np.ptp(expected[:, 1]) > 1e-3, "the images are told apart"
    np.testing.assert_allclose(table[["probability_NORMAL", "probability_PNEUMONIA"]], expected, atol=1e-4)
    assert len(list((tmp_path / "maps").rglob("*.png"))) == len(table)


@pytest.mark.parametrize("words", [("--help",), ("predict", "--help"), ("doctor",)])
def test_help_and_doctor_work(node, words, tmp_path):
    done = run(node, *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_bundle_is_shown(node, bundle, tmp_path):
    done = run(node, "bundle", "show", bundle, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "PNEUMONIA" in done.stdout


def test_what_needs_torch_says_what_to_install(node, images, tmp_path):
    (tmp_path / "recipe.yaml").write_text(json.dumps({"data": str(images), "backbone": "resnet18"}))
    done = run(node, "train", "recipe.yaml", "--out", "run", folder=tmp_path)
    assert done.returncode == 2
    assert "pip install 'freezeframe[train]'" in done.stderr
