"""From a trained ensemble to a bundle."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import numpy_helper
from PIL import Image

from freezeframe import files
from freezeframe.bundle.export import export
from freezeframe.bundle.options import Options, Purpose, read_purpose
from freezeframe.bundle.parity import check_parity
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.bundle.runtime.predictor import Predictor
from freezeframe.bundle.runtime.preparing import prepare
from freezeframe.bundle.runtime.seal import seal
from freezeframe.bundle.runtime.signature import make_keys
from freezeframe.ensemble.folder import read_ensemble
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.imaging.worker_process import Reference

WHOLE = {
    "bundle.json", "card.json", "card.md", "card.es.md", "LICENSE.txt", "parity.parquet", "codes.csv", "checksums.txt",
    "members/run0.onnx", "members/run0.heat.safetensors", "members/run0.reference.safetensors", "members/run1.onnx",
    "members/run1.heat.onnx", "members/run1.reference.safetensors",
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(trained_ensemble, tmp_path_factory) -> Path:
    options = Options(
        "tiny",
        licence="CC-BY-4.0\nAttribution 4.0 International",
        purpose=Purpose(use="A test.", views=("PA",)),
        sensitivities=(0.95,),
    )
    return export(trained_ensemble, tmp_path_factory.mktemp("bundle") / "tiny", options)


@pytest.fixture
def copied(trained_ensemble, tmp_path) -> Path:
    """An ensemble that may be changed."""
    shutil.copytree(trained_ensemble.parent, tmp_path / "trained")
    return tmp_path / "trained" / trained_ensemble.name


def test_a_bundle_has_all_its_files_and_opens(bundle):
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert found == WHOLE
    contents = open_bundle(bundle).contents
    assert contents.labels == ("normal", "pneumonia")
    assert [entry.code and entry.code.value for entry in contents.classes] == ["17621005", "233604007"]
    assert [member.backbone for member in contents.members] == ["test_resnet", "test_efficientnet"]
    assert contents.licence == "CC-BY-4.0"
    assert contents.intended.views == ("PA",)
    assert not list(bundle.parent.glob(".*"))


def test_the_ensembles_operating_point_comes_first_and_asked_ones_after_it(bundle, trained_ensemble):
    points = open_bundle(bundle).contents.operating_points
    assert [point.name for point in points] == ["default", "sensitivity-0.95"]
    assert points[0].point == read_ensemble(trained_ensemble).operating_point
    assert points[1].threshold().sensitivity >= 0.95


def test_both_sides_of_every_validation_image_are_written_down(bundle, trained_ensemble):
    table = pd.read_parquet(bundle / "parity.parquet")
    stored = pd.read_parquet(trained_ensemble / "predictions" / "validation.parquet").set_index("image")
    assert set(table["image"]) == set(stored.index)
    expected = stored.loc[table["image"], "probability_pneumonia"].to_numpy()
    # The trainings stored their activations in half precision.
    np.testing.assert_allclose(table["bundle_pneumonia"], expected, atol=1e-3)
    np.testing.assert_allclose(table["training_pneumonia"], expected, atol=1e-3)
    assert table["same"].tolist() == [True] * len(table)
    parity = open_bundle(bundle).contents.parity
    assert parity["images"] == len(table)
    assert parity["largest_difference"] <= 1e-4
    assert parity["decisions_changed"] == {"default": 0, "sensitivity-0.95": 0}


def test_the_card_has_the_stored_test_images_metrics(bundle, trained_ensemble):
    card = json.loads((bundle / "card.json").read_text())
    stored = pd.read_parquet(trained_ensemble / "predictions" / "test.parquet")
    right = (stored["probability_pneumonia"] >= 0.5) == (stored["label"] == "pneumonia")
    assert card["evaluation"]["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert card["evaluation"]["images"] == len(stored)
    assert card["intended"]["use"] == "A test."
    assert card["data"]["splits"]["train"]["by_class"] == {"normal": 40, "pneumonia": 40}


def test_an_image_like_the_training_images_is_not_flagged_and_another_one_is(
    bundle, trained_ensemble, tmp_path
):
    foreign = np.linspace(0, 255, 64 * 64, dtype=np.uint8).reshape(64, 64)
    Image.fromarray(foreign).save(tmp_path / "foreign.png")
    predictor = Predictor(open_bundle(bundle))
    known = read_ensemble(trained_ensemble).members[0].manifest.subset("test").references()[:8]
    references = [*known, Reference(tmp_path / "foreign.png", 0)]
    answers = predictor.answer([prepare(one, predictor.preprocessings) for one in references])
    assert np.median(answers.distances[:, :8]) < 1
    assert any(warning.key == "unlike" for warning in answers.warnings[8])


def test_a_graph_with_changed_weights_is_caught_with_the_images_that_differ(
    bundle, trained_ensemble, tmp_path
):
    changed = shutil.copytree(bundle, tmp_path / "changed")
    path = changed / "members" / "run0.onnx"
    model = onnx.load(path)
    bias = next(entry for entry in model.graph.initializer if entry.name.endswith("linear.bias"))
    values = numpy_helper.to_array(bias).copy()
    values[0] += 0.01
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, path)
    seal(changed)
    ensemble = read_ensemble(trained_ensemble)
    images = ensemble.members[0].manifest.subset("validation")
    with pytest.raises(FreezeframeError, match=r"for 40 of 40 validation images") as caught:
        check_parity(ensemble, Predictor(open_bundle(changed)), images)
    assert caught.value.exit_code == 1
    message = str(caught.value)
    assert message.count(" against ") == 11
    assert "and 30 more" in message
    assert "normal 0." in message


def test_a_preparation_that_differs_from_the_trainings_leaves_nothing_behind(copied, tmp_path):
    path = copied.parent / "run1" / "run.json"
    details = files.read_json(path)
    details["preprocessing"]["mean"] = [0.4, 0.5, 0.5]
    files.write_json(path, details)
    with pytest.raises(FreezeframeError, match="does not answer as the training model does"):
        export(copied, tmp_path / "out" / "tiny", Options("tiny", screening=False))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_that_is_there_is_replaced_and_a_failed_export_leaves_it(copied, tmp_path, bundle):
    out = shutil.copytree(bundle, tmp_path / "out" / "tiny")
    made = export(copied, out, Options("second", screening=False))
    assert open_bundle(made).contents.name == "second"
    before = open_bundle(made).sha256
    path = copied.parent / "run0" / "run.json"
    details = files.read_json(path)
    details["preprocessing"]["std"] = [0.4, 0.5, 0.5]
    files.write_json(path, details)
    with pytest.raises(FreezeframeError):
        export(copied, out, Options("third", screening=False))
    assert open_bundle(out).sha256 == before
    assert [entry.name for entry in out.parent.iterdir()] == ["tiny"]


def test_a_single_run_is_exported_as_one_signed_file_without_screening(trained_ensemble, tmp_path):
    secret, public = make_keys(tmp_path / "keys")
    run = trained_ensemble.parent / "run0"
    out = export(run, tmp_path / "one.ffb", Options("one", secret_key=secret, screening=False))
    opened = open_bundle(out, public)
    assert opened.signed
    assert [member.reference for member in opened.contents.members] == [None]
    # Chosen on validation images, as evaluating the run does.
    assert [point.name for point in opened.contents.operating_points] == ["default"]
    assert opened.contents.temperature is not None
    assert "no_screening" in json.loads(opened.read("card.json"))["limits"]
    assert "has not said" in opened.read("LICENSE.txt").decode()


def test_members_in_another_order_of_classes_answer_in_the_ensembles(copied, tmp_path):
    run = copied.parent / "run1"
    details = files.read_json(run / "run.json")
    content = files.read_json(copied / "ensemble.json")
    content["classes"] = ["pneumonia", "normal"]
    files.write_json(copied / "ensemble.json", content)
    assert details["classes"] == ["normal", "pneumonia"]
    made = export(copied, tmp_path / "tiny", Options("tiny", screening=False))
    assert open_bundle(made).contents.labels == ("pneumonia", "normal")


def test_the_purpose_is_read_from_a_file_and_a_wrong_field_is_named(tmp_path):
    (tmp_path / "good.yaml").write_text("use: Children\nages: [1, 5]\nmodalities: [CR]\n")
    purpose = read_purpose(tmp_path / "good.yaml")
    assert (purpose.use, purpose.ages, purpose.modalities) == ("Children", (1, 5), ("CR",))
    (tmp_path / "bad.yaml").write_text("vews: [PA]\n")
    with pytest.raises(UserError, match="vews"):
        read_purpose(tmp_path / "bad.yaml")


def test_an_unknown_positive_class_is_refused(trained_ensemble, tmp_path):
    with pytest.raises(UserError, match="no class 'x'"):
        export(trained_ensemble, tmp_path / "tiny", Options("tiny", positive="x"))
