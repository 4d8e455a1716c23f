"""Tests of variants: int8 bundles, the gate, and the table that comes of them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from making import CLASSES, make_bundle, make_graph

from factories import make_manifest
from freezeframe.bundle import optimise
from freezeframe.bundle.gate import Images, Side, judge, side_by_side
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.bundle.variants import ask, int8_bundle
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.evaluation.operating_points import OperatingPoint

POSITIVE = 1


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_manifest(tmp_path_factory.mktemp("data"), n=240, classes=CLASSES, images=True)


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "float32")


@pytest.fixture(scope="module")
def int8(float32: Path, images: Manifest) -> Path:
    out = float32.parent / "int8"
    int8_bundle(float32, out, images, POSITIVE, limit=0.2)
    return out


def _point(threshold: float) -> OperatingPoint:
    return OperatingPoint("youden", None, CLASSES[1], threshold, 0.9, 0.8, 10, 10)


def _judged(scores: np.ndarray, labels: np.ndarray) -> tuple[Images, Side]:
    names = np.array([f"{number}.png" for number in range(len(labels))])
    return Images(names, labels, names, CLASSES, POSITIVE), _side(scores)


def _side(scores: np.ndarray, threshold: float = 0.5) -> Side:
    return Side(np.stack([1 - scores, scores], axis=1), {"youden": _point(threshold)})


def test_an_int8_bundle_opens_and_says_what_it_is(int8: Path) -> None:
    contents = open_bundle(int8).contents
    assert {member.kind for member in contents.members} == {"int8"}
    said = contents.parity["int8"]
    assert said["images"] == 60
    assert set(said["layers_left_in_float32"]) == {"member0", "member1"}


def test_an_int8_bundle_answers_nearly_as_the_float32_bundle_does(
    float32: Path, int8: Path, images: Manifest
) -> None:
    test = images.subset("test")
    sides = [ask(open_bundle(path), test, POSITIVE, "").side.probabilities for path in (float32, int8)]
    assert 0 < np.abs(sides[0] - sides[1]).max() < 0.1


def test_an_int8_bundle_lists_each_validation_image_and_whether_it_changed(int8: Path) -> None:
    table = pd.read_parquet(int8 / "parity.parquet")
    said = open_bundle(int8).contents.parity["int8"]
    assert len(table) == 60
    assert table["changed"].sum() == said["decisions_changed"]["youden"]
    differs = table["float32_decision_youden"] != table["variant_decision_youden"]
    assert table["changed"].tolist() == differs.tolist()


def test_an_int8_bundle_is_not_quantised_again(int8: Path, images: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is an int8 bundle"):
        int8_bundle(int8, tmp_path / "again", images, POSITIVE)
    assert not (tmp_path / "again").exists()


def test_int8_needs_training_images(float32: Path, images: Manifest, tmp_path: Path) -> None:
    moved = Manifest(images.table, tmp_path / "elsewhere", images.classes)
    with pytest.raises(UserError, match="0 training images can be read"):
        int8_bundle(float32, tmp_path / "out", moved, POSITIVE)
    assert not (tmp_path / "out").exists()


def test_a_variant_that_ranks_alike_passes_whatever_the_probabilities() -> None:
    labels = np.repeat([0, 1], 50)
    scores = np.random.default_rng(0).uniform(size=100) / 2 + labels * 0.2
    images, side = _judged(scores, labels)
    verdict = judge(images, side, _side(scores / 2, 0.25))
    assert (verdict.loss, verdict.changed, verdict.passed) == (0.0, {"youden": 0}, True)
    assert verdict.largest_difference == pytest.approx(scores.max() / 2)


def test_a_variant_that_may_have_lost_more_than_the_limit_fails() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    scores = np.clip(random.normal(0.3 + 0.4 * labels, 0.1), 0, 1)
    images, side = _judged(scores, labels)
    worse = _side(np.clip(scores + random.normal(0, 0.3, 100), 0, 1))
    verdict = judge(images, side, worse)
    assert verdict.high is not None
    assert verdict.high > 0.01
    assert not verdict.passed


def test_a_small_loss_on_few_images_is_not_known_to_be_small() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], 500)
    scores = random.normal(0.4 + 0.2 * labels, 0.12).clip(0, 1)
    nearly = (scores + random.normal(0, 0.02, 1000)).clip(0, 1)
    few = np.r_[0:10, 500:510]
    many, side = _judged(scores, labels)
    assert judge(many, side, _side(nearly)).passed
    some, side = _judged(scores[few], labels[few])
    assert not judge(some, side, _side(nearly[few] + random.normal(0, 0.05, 20))).passed


def test_decisions_are_compared_at_each_sides_own_threshold() -> None:
    labels = np.repeat([0, 1], 4)
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])
    images, side = _judged(scores, labels)
    assert judge(images, side, _side(scores, 0.65)).changed == {"youden": 1}
    table = side_by_side(images, side, _side(scores, 0.65))
    assert table.loc[table["changed"], "image"].tolist() == ["3.png"]


@pytest.fixture(scope="module")
def table(float32: Path, int8: Path, images: Manifest) -> Path:
    ruined = make_bundle(
        float32.parent / "ruined",
        more={f"members/member{index}.onnx": make_graph(seed=index + 10) for index in range(2)},
    )
    optimise.compare(
        {"float32": float32, "int8": int8, "ruined": ruined},
        images.subset("validation"),
        images.subset("test"),
        POSITIVE,
        float32.parent,
        {"lite0": "0123"},
        limit=0.2,
        not_made={"pruned": "there is nothing to prune."},
        repeats=3,
    )
    return float32.parent


def _rows(table: Path) -> dict[str, dict]:
    content = json.loads((table / "optimise.json").read_text())
    return {row["variant"]: row for row in content["variants"]}


def test_the_table_has_the_size_on_disk_and_the_speed_of_each_variant(table: Path) -> None:
    for name, row in _rows(table).items():
        assert row["bytes"] == sum(
            path.stat().st_size for path in (table / name).rglob("*") if path.is_file()
        )
        assert row["images_per_second"] > 0
        assert row["latency_ms"] > 0


def test_a_variant_that_fails_the_gate_is_not_offered_and_it_is_said(
    table: Path, images: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _rows(table)
    assert {name: row["passed"] for name, row in rows.items()} == {
        "float32": True,
        "int8": True,
        "ruined": False,
    }
    optimise.compare(
        {"float32": table / "float32", "ruined": table / "ruined"},
        images.subset("validation"),
        images.subset("test"),
        POSITIVE,
        table / "again",
        {},
        repeats=1,
    )
    assert "ruined is not offered" in capsys.readouterr().err


def test_the_page_shows_the_figures_of_the_file(table: Path) -> None:
    page = (table / "optimise.md").read_text()
    for name, row in _rows(table).items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
        assert f"{row['test']['roc_auc']['value']:.4f}" in line
        assert f"| {row['bytes'] / 1e6:.1f} |" in line
        assert line.endswith("| yes |" if row["passed"] else "| no |")
    assert "pruned could not be made: there is nothing to prune." in page


def test_variants_with_other_classes_are_refused(float32: Path, images: Manifest, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", classes=("NORMAL", "OTHER"), changes={"operating_points": []})
    with pytest.raises(UserError, match="The classes of other are NORMAL, OTHER"):
        optimise.compare(
            {"float32": float32, "other": other},
            images.subset("validation"),
            images.subset("test"),
            POSITIVE,
            tmp_path,
            {},
        )
