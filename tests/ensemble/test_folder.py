"""Reading runs and ensembles, and what does not belong together."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from factories import make_manifest, make_run
from freezeframe.ensemble.folder import read_ensemble, read_members, read_run
from freezeframe.errors import UserError
from freezeframe.verbs.ensemble import ensemble


def test_a_run_is_an_ensemble_of_one(tmp_path):
    found = read_ensemble(make_run(tmp_path, "lite0"))
    assert [member.name for member in found.members] == ["lite0"]
    answers = found.answers("test")
    assert answers.logits.shape == (1, 28, 2)
    assert np.allclose(found.probabilities(answers.logits).sum(axis=1), 1)


def test_a_folder_that_is_neither_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither ensemble\.json nor run\.json"):
        read_ensemble(tmp_path)


@pytest.mark.parametrize("status", ["running", "failed"])
def test_an_unfinished_run_is_refused_with_the_way_on(tmp_path, status):
    with pytest.raises(UserError, match=f"is {status}.*continues where it stopped"):
        read_run(make_run(tmp_path, "lite0", status=status))


def test_runs_of_equal_names_get_different_ones(tmp_path):
    runs = [make_run(tmp_path / place, "lite0", seed=seed) for seed, place in enumerate("abc")]
    runs.append(make_run(tmp_path, "ensemble", seed=4))
    assert [member.name for member in read_members(runs)] == ["lite0", "lite0-2", "lite0-3", "ensemble-2"]


def test_a_run_given_twice_is_refused(tmp_path):
    run = make_run(tmp_path, "lite0")
    with pytest.raises(UserError, match="given twice"):
        read_members([run, tmp_path / "." / "lite0"])


def test_runs_of_other_classes_are_refused_by_name(tmp_path):
    one = make_run(tmp_path / "a", "one")
    other = make_run(tmp_path / "b", "other", classes=("normal", "viral"))
    with pytest.raises(UserError, match=r"normal, pneumonia, those of other normal, viral"):
        read_members([one, other])


def test_classes_in_another_order_are_put_in_order(tmp_path):
    one = make_run(tmp_path / "a", "one", skill=9)
    manifest = make_manifest(tmp_path / "b")
    other = make_run(
        tmp_path / "b", "other", skill=9, manifest=replace(manifest, classes=manifest.classes[::-1])
    )
    found = read_ensemble(ensemble([one, other], tmp_path / "all"))
    answers = found.answers("test")
    truth = answers.images["label"].map({"normal": 0, "pneumonia": 1}).to_numpy()
    assert (answers.logits.argmax(axis=2) == truth).mean() > 0.99


@pytest.mark.parametrize("kind", ["images", "patients"])
def test_a_test_image_or_patient_of_one_that_another_was_trained_with_is_refused_with_names(tmp_path, kind):
    manifest = make_manifest(tmp_path)
    one = make_run(tmp_path, "one", manifest=manifest)
    turned = manifest.table["split"].map({"train": "test", "test": "train", "validation": "validation"})
    table = manifest.table.assign(split=turned)
    if kind == "patients":
        table = table.assign(sha256=["f" + value[1:-1] + "0" for value in table["sha256"]])
    other = make_run(tmp_path, "other", manifest=replace(manifest, table=table))
    expected = "normal/0-00000.png" if kind == "images" else "0-p00000"
    with pytest.raises(UserError, match=rf"test {kind} of other are train {kind} of one: {expected}"):
        read_members([one, other])


def test_images_that_one_member_could_not_read_are_left_out_and_counted(tmp_path):
    runs = [make_run(tmp_path, name, seed=seed) for seed, name in enumerate(("one", "two"))]
    path = runs[1] / "predictions" / "test.parquet"
    pd.read_parquet(path).iloc[::-1].iloc[3:].to_parquet(path)
    answers = read_ensemble(ensemble(runs, tmp_path / "all")).answers("test")
    assert (len(answers.images), answers.left_out) == (25, 3)
    first = read_run(runs[0])
    expected = pd.read_parquet(first.folder / "predictions" / "test.parquet").set_index("image")
    columns = ["logit_normal", "logit_pneumonia"]
    assert np.allclose(answers.logits[0], expected.loc[answers.images["image"], columns])


def test_different_labels_of_an_image_are_refused(tmp_path):
    runs = [make_run(tmp_path, name, seed=seed) for seed, name in enumerate(("one", "two"))]
    path = runs[1] / "predictions" / "validation.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "label"] = "pneumonia"
    table.to_parquet(path)
    with pytest.raises(UserError, match="one and two have different labels for 1 images, such as normal/"):
        ensemble(runs, tmp_path / "all")


def test_logits_that_are_not_numbers_are_refused(tmp_path):
    run = make_run(tmp_path, "one")
    path = run / "predictions" / "test.parquet"
    table = pd.read_parquet(path)
    table.loc[2, "logit_normal"] = np.nan
    table.to_parquet(path)
    with pytest.raises(UserError, match="not finite numbers for 1 images"):
        read_ensemble(run).answers("test")


def test_a_member_that_was_trained_further_is_noticed(tmp_path):
    run = make_run(tmp_path, "one")
    folder = ensemble([run], tmp_path / "all")
    save_file({"head.weight": np.ones((2, 4), np.float32)}, run / "checkpoints" / "best.safetensors")
    with pytest.raises(UserError, match=r"one has other weights than when the ensemble"):
        read_ensemble(folder)


def test_runs_and_ensemble_can_be_moved_together(tmp_path):
    runs = [make_run(tmp_path / "here", name, seed=seed) for seed, name in enumerate(("one", "two"))]
    folder = ensemble(runs, tmp_path / "here" / "all")
    places = json.loads((folder / "ensemble.json").read_text())["members"]
    assert [place["path"] for place in places.values()] == ["../one", "../two"]
    (tmp_path / "here").rename(tmp_path / "there")
    assert len(read_ensemble(tmp_path / "there" / "all").members) == 2


def test_a_split_without_predictions_is_refused_with_those_there_are(tmp_path):
    run = make_run(tmp_path, "one")
    (run / "predictions" / "train.parquet").unlink()
    with pytest.raises(
        UserError, match=r"no predictions of the split 'train'. Expected: one of test, validation"
    ):
        read_ensemble(run).answers("train")
