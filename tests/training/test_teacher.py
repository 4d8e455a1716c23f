"""Learning from a teacher: what it says is right, is kept, and teaches."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from scipy.stats import entropy

from freezeframe.backbones import zoo
from freezeframe.data.manifest import Manifest
from freezeframe.ensemble.folder import Ensemble, read_run, write_ensemble
from freezeframe.errors import UserError
from freezeframe.imaging import augment
from freezeframe.recipe import Recipe
from freezeframe.stores.pixels import Pixels
from freezeframe.training import assembly as assembling
from freezeframe.training.fit import train
from freezeframe.training.losses import distillation, make_loss
from freezeframe.training.teacher import ask, read_teacher, soften
from freezeframe.training.views import Views


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "best.safetensors")


def assert_same_bits(run: Path, other: Path) -> None:
    one, two = weights(run), weights(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def status(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def members(recipe, tmp_path_factory) -> list[Path]:
    """Two runs of other sizes: one with a frozen part, one of which everything trained."""
    folder = tmp_path_factory.mktemp("members")
    other = recipe.changed(
        unfreeze="all", preprocess=[{"resize": {"size": 64}}], epochs=1, seed=1, split={"seed": 0}
    )
    return [train(recipe, folder / "last-block"), train(other, folder / "all")]


@pytest.fixture(scope="module")
def ensemble(members, tmp_path_factory) -> Path:
    runs = tuple(read_run(member) for member in members)
    made = Ensemble(
        tmp_path_factory.mktemp("ensemble") / "both",
        runs,
        runs[0].classes[::-1],
        "mean",
        {run.name: 0.5 for run in runs},
    )
    write_ensemble(made, {}, None)
    return made.folder


@pytest.fixture(scope="module")
def student(recipe, ensemble) -> Recipe:
    """A small network that learns from both."""
    small = [{"resize": {"size": 64}}]
    return recipe.changed(unfreeze="head", preprocess=small, dropout=0.0, teacher=str(ensemble), seed=0)


@pytest.fixture(scope="module")
def taught(student, tmp_path_factory) -> Path:
    return train(student, tmp_path_factory.mktemp("runs") / "taught")


@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0, 10.0]))
def test_the_distillation_loss_and_its_gradient_are_the_papers(seed, temperature):
    random = np.random.default_rng(seed)
    logits, teacher = random.normal(0, 3, (2, 5, 3))
    lessons = softmax(teacher / temperature, axis=1)
    answers = softmax(logits / temperature, axis=1)
    tensor = torch.tensor(logits, requires_grad=True)
    loss = distillation(tensor, torch.tensor(lessons), temperature)
    loss.backward()
    # entropy() of two distributions is the Kullback-Leibler divergence.
    expected = temperature**2 * entropy(lessons, answers, axis=1).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    # Equation 2 there, times T^2, for the mean over 5 images.
    gradient = temperature * (answers - lessons) / 5
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad.numpy(), gradient, rtol=1e-9, atol=1e-12)


def test_the_whole_loss_is_divided_between_labels_and_teacher():
    recipe = Recipe.parse({"data": "x", "backbone": "resnet18", "teacher": "y", "teacher_weight": 0.7})
    logits, lessons = torch.randn(4, 2), torch.rand(4, 2).softmax(1)
    labels = torch.tensor([0, 1, 1, 0])
    by_labels = torch.nn.functional.cross_entropy(logits, labels)
    by_teacher = distillation(logits, lessons, recipe.teacher_temperature)
    loss = make_loss(recipe, labels.numpy(), 2)(logits, labels, lessons)
    assert loss.item() == pytest.approx(0.3 * by_labels.item() + 0.7 * by_teacher.item(), rel=1e-5)


def test_softening_a_networks_probabilities_is_the_softmax_of_its_logits_divided_by_the_temperature():
    logits = np.random.default_rng(0).normal(0, 4, (6, 3))
    np.testing.assert_allclose(soften(softmax(logits, axis=1), 3.0), softmax(logits / 3, axis=1), atol=1e-6)
    sure = soften(np.array([[1.0, 0.0]]), 2.0)
    assert np.isfinite(sure).all()


def test_lessons_are_the_ensembles_answers_to_the_very_views_of_the_student(student, members, ensemble):
    manifest = Manifest.read(members[0] / "manifest.parquet")
    images = manifest.subset("train")
    policy = augment.Policy.named({"policy": "mixup", "rotate": 20})
    preprocessing = assembling.preprocessing_of(student, zoo.describe(student.backbone))
    assert student.store is not None
    pixels = Pixels(student.store, preprocessing)
    pixels.fill(images)
    views = Views(pixels, preprocessing, images.keys(), images.keys(), policy, seed=5)
    places = [(index, view) for index in range(9) for view in (0, 1)]
    lessons = ask(read_teacher(ensemble, manifest, ensemble), student, images, views, places)

    probabilities = []
    for member in members:
        own = Recipe.read(member / "recipe.yaml")
        network = zoo.restore(own, 2, member / "checkpoints" / "best.safetensors").module.eval()
        prepared = assembling.preprocessing_of(own, zoo.describe(own.backbone))
        seen = Views(Pixels(student.store, prepared), prepared, images.keys(), images.keys(), policy, seed=5)
        with torch.inference_mode():
            probabilities.append(network(torch.from_numpy(seen.batch(places))).double().softmax(1).numpy())
    expected = soften(np.mean(probabilities, axis=0), student.teacher_temperature)
    np.testing.assert_allclose(lessons.batch(places), expected, atol=1e-4)
    # Rows follow the places, whatever their order.
    assert (lessons.batch(places[::-1]) == lessons.batch(places)[::-1]).all()


def test_a_student_of_a_good_teacher_learns_although_its_labels_are_wrong(recipe, members, tmp_path):
    table = Manifest.read(members[0] / "manifest.parquet").table
    wrong = {"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"}
    training = table["split"] == "train"
    table.loc[training, "label"] = table.loc[training, "label"].map(wrong)
    table["image"] = [str(recipe.data.path / image) for image in table["image"]]
    table[["image", "label", "patient", "split"]].to_csv(tmp_path / "wrong.csv", index=False)
    fields = {"data": str(tmp_path / "wrong.csv"), "split": {"minimum_images": 1}, "check_overlap": False,
              "unfreeze": "head", "epochs": 5, "learning_rate": 1e-2}  # fmt: skip
    alone = train(recipe.changed(**fields), tmp_path / "alone")
    student = recipe.changed(**fields, teacher=str(members[0]), teacher_weight=1.0)
    taught = train(student, tmp_path / "taught")
    scores = [status(run)["best_validation"]["validation_roc_auc"] for run in (alone, taught)]
    assert scores[1] > 0.8
    assert scores[0] < 0.6


def test_a_teacher_without_weight_changes_no_bit(student, tmp_path):
    with_teacher = train(student.changed(teacher_weight=0.0), tmp_path / "with")
    assert_same_bits(with_teacher, train(student.changed(teacher=None), tmp_path / "without"))


def test_a_teacher_with_weight_changes_the_student(taught, student, tmp_path):
    alone = weights(train(student.changed(teacher=None), tmp_path / "alone"))
    assert not torch.equal(weights(taught)["classifier.linear.weight"], alone["classifier.linear.weight"])


def test_stored_live_and_newly_asked_answers_teach_the_same(taught, student, tmp_path):
    live = train(student.changed(activations="live"), tmp_path / "live")
    assert status(live)["activations"]["mode"] == "live"
    assert_same_bits(taught, live)
    # In a store without the members' activations, the answers are computed from the images.
    elsewhere = train(student.changed(store=str(tmp_path / "store")), tmp_path / "elsewhere")
    assert_same_bits(taught, elsewhere)


def test_a_teacher_is_asked_once_for_each_view(student, taught, tmp_path, monkeypatch):
    from freezeframe.training import teacher

    def refuse(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr(teacher, "_ask", refuse)
    assert_same_bits(taught, train(student, tmp_path / "again"))


class StopError(Exception):
    pass


def stop_after_the_first_epoch(epoch, row):
    if epoch == 0:
        raise StopError


@pytest.mark.parametrize("imbalance", ["none", "mixup"])
def test_a_student_that_was_stopped_ends_with_the_same_bits(student, radiographs, tmp_path, imbalance):
    unequal = student.changed(imbalance=imbalance, accumulate=2, checkpoint_seconds=0.001, augment="mixup")
    run = tmp_path / "run"
    with pytest.raises(StopError):
        train(unequal, run, watch=stop_after_the_first_epoch)
    assert status(run)["status"] == "running"
    train(unequal, run)
    assert_same_bits(run, train(unequal, tmp_path / "unbroken"))


def test_a_run_records_its_teacher(taught, ensemble, members):
    recorded = status(taught)["teacher"]
    assert recorded["path"] == str(ensemble)
    assert recorded["rule"] == "mean"
    assert recorded["members"] == {member.name: status(member)["weights_sha256"] for member in members}


def test_a_teacher_that_changed_is_refused_and_named(student, members, tmp_path):
    teacher = shutil.copytree(members[0], tmp_path / "teacher")
    run = train(student.changed(teacher=str(teacher), epochs=1), tmp_path / "run")
    best = teacher / "checkpoints" / "best.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in weights(teacher).items()}, best)
    with pytest.raises(UserError, match=r"begun with another teacher: .*teacher has changed"):
        train(student.changed(teacher=str(teacher), epochs=2), run)


def test_another_teacher_in_the_same_run_is_refused_and_named(taught, student, members):
    with pytest.raises(UserError, match=r"teacher: .*both.* there, .*last-block"):
        train(student.changed(teacher=str(members[0])), taught)


def test_a_teacher_that_was_trained_with_what_the_student_is_judged_on_is_refused(student, tmp_path):
    other = student.changed(split={"seed": 7}, epochs=1)
    with pytest.raises(UserError, match=r"images of the student are train images of the teacher"):
        train(other, tmp_path / "run")


def test_a_teacher_of_other_classes_is_refused(student, members, tmp_path):
    teacher = shutil.copytree(members[0], tmp_path / "teacher")
    details = status(teacher)
    (teacher / "run.json").write_text(json.dumps({**details, "classes": ["NORMAL", "TUBERCULOSIS"]}))
    with pytest.raises(UserError, match=r"knows the classes NORMAL, TUBERCULOSIS.*NORMAL, PNEUMONIA"):
        train(student.changed(teacher=str(teacher)), tmp_path / "run")


def test_a_teacher_that_is_not_there_is_refused(student, tmp_path):
    with pytest.raises(UserError, match=r"holds neither ensemble\.json nor run\.json"):
        train(student.changed(teacher=str(tmp_path / "nowhere")), tmp_path / "run")


@pytest.mark.slow
def test_several_processes_learn_from_a_teacher_as_one_does(student, taught, tmp_path):
    run = train(student.changed(devices=2, threads=1), tmp_path / "two")
    for name, tensor in weights(taught).items():
        torch.testing.assert_close(weights(run)[name], tensor, rtol=1e-4, atol=1e-5)
    curves = [pd.read_csv(one / "metrics.csv")["train_loss"] for one in (run, taught)]
    np.testing.assert_allclose(*curves, rtol=1e-4)
