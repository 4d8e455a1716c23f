import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save
from scipy.special import softmax

from bundle.making import head_weights, make_bundle, make_contents, make_graph
from freezeframe.bundle.reference import fit_reference
from freezeframe.bundle.runtime.contents import FEATURES, HEAT
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.bundle.runtime.heat import heat_maps
from freezeframe.bundle.runtime.pixel_facts import thumbnail
from freezeframe.bundle.runtime.predictor import Predictor
from freezeframe.bundle.runtime.preparing import Prepared, prepare
from freezeframe.bundle.runtime.sessions import open_session
from freezeframe.data.manifest import ImageReference
from freezeframe.errors import UserError
from freezeframe.evaluation.calibration import apply_temperature
from freezeframe.imaging.preprocess import Preprocessing


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Images of every depth and number of channels, in a folder."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for index in range(24):
        shape = (40 + index, 60) if index % 3 else (40 + index, 60, 3)
        pixels = random.integers(0, 256, shape).astype(np.uint8)
        if index % 3 == 1:
            pixels = pixels.astype(np.uint16) * 257
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return sorted(folder.iterdir())


def prepared_by(predictor: Predictor, paths) -> list[Prepared]:
    return [prepare(ImageReference(path), predictor.preprocessings) for path in paths]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    return Predictor(open_bundle(make_bundle(tmp_path_factory.mktemp("bundle") / "small", members=3)))


@pytest.fixture(scope="module")
def prepared(predictor, paths) -> list[Prepared]:
    return prepared_by(predictor, paths)


@pytest.fixture(scope="module")
def answers(predictor, prepared):
    return predictor.answer(prepared)


def changed(folder, more: dict[str, bytes] | None = None, **changes) -> Predictor:
    return Predictor(open_bundle(make_bundle(folder / "bundle", changes=changes, more=more)))


def test_members_that_share_a_preprocessing_share_the_prepared_image(predictor, prepared):
    assert len(predictor.preprocessings) == 1
    assert [len(one.images) for one in prepared] == [1] * 24


def test_logits_are_those_of_each_member_s_graph(predictor, prepared, answers):
    [preprocessing] = predictor.preprocessings
    for member in range(3):
        session = open_session(make_graph(seed=member))
        for image, one in enumerate(prepared):
            alone = session.run(preprocessing.normalise(one.images[0][None]), ("logits",))["logits"][0]
            assert np.allclose(answers.logits[member, image], alone, atol=1e-5)


def test_probabilities_are_combined_by_the_rule_and_calibrated_beside(answers):
    assert np.allclose(answers.probabilities, softmax(answers.logits.astype(float), axis=2).mean(axis=0))
    assert np.array_equal(answers.calibrated, apply_temperature(answers.probabilities, 1.5))


def test_a_weighted_rule_uses_the_members_weights(tmp_path, paths):
    members = make_contents()["members"]
    members[0]["weight"], members[1]["weight"] = 0.0, 2.0
    predictor = changed(tmp_path, rule="weighted", members=members)
    answers = predictor.answer(prepared_by(predictor, paths[:3]))
    assert np.allclose(answers.probabilities, softmax(answers.logits[1].astype(float), axis=1))


def test_decisions_are_made_on_the_uncalibrated_probabilities(tmp_path, paths):
    # A temperature moves no probability over 0.5, so the threshold lies elsewhere.
    points = make_contents()["operating_points"]
    points[0]["point"]["threshold"] = 0.55
    predictor = changed(tmp_path, operating_points=points, temperature=4.0)
    answers = predictor.answer(prepared_by(predictor, paths))
    assert np.array_equal(answers.decisions == 1, answers.probabilities[:, 1] >= 0.55)
    assert not np.array_equal(answers.decisions == 1, answers.calibrated[:, 1] >= 0.55)


def test_an_operating_point_is_taken_by_its_name(tmp_path):
    points = make_contents()["operating_points"]
    other = json.loads(json.dumps(points[0]).replace("youden", "screening"))
    other["point"] |= {"rule": "sensitivity", "target": 0.95, "threshold": 0.2}
    bundle = open_bundle(make_bundle(tmp_path / "bundle", changes={"operating_points": [*points, other]}))
    first, named = (
        Predictor(bundle).operating_point,
        Predictor(bundle, operating_point="screening").operating_point,
    )
    assert first is not None
    assert named is not None
    assert (first.threshold, named.threshold) == (0.5, 0.2)
    with pytest.raises(UserError, match="did you mean 'screening'"):
        Predictor(bundle, operating_point="screning")


def test_without_operating_points_the_most_probable_class_is_decided_on(tmp_path, paths):
    predictor = changed(tmp_path, operating_points=[])
    answers = predictor.answer(prepared_by(predictor, paths[:5]))
    assert np.array_equal(answers.decisions, answers.probabilities.argmax(axis=1))
    own = softmax(answers.logits.astype(float), axis=2)[:, np.arange(5), answers.decisions]
    assert np.allclose(answers.spread, own.std(axis=0))


def test_the_spread_is_that_of_the_positive_class_over_the_members(answers):
    assert np.allclose(answers.spread, softmax(answers.logits.astype(float), axis=2)[:, :, 1].std(axis=0))


def test_one_member_has_no_spread(tmp_path, paths):
    predictor = Predictor(open_bundle(make_bundle(tmp_path / "bundle", members=1)))
    assert np.isnan(predictor.answer(prepared_by(predictor, paths[:2])).spread).all()


@pytest.mark.parametrize("chosen", [[5, 0], [23, 1, 2, 3, 7], list(range(7, 24))])
def test_an_answer_is_the_same_to_the_bit_whatever_images_are_beside_it(predictor, prepared, answers, chosen):
    others = predictor.answer([prepared[index] for index in chosen])
    for name in ("probabilities", "calibrated", "decisions", "spread"):
        assert np.array_equal(getattr(others, name), getattr(answers, name)[chosen])
    assert np.array_equal(others.logits, answers.logits[:, chosen])


def test_no_images_have_no_answers(predictor):
    answers = predictor.answer([])
    assert answers.probabilities.shape == (0, 2)
    assert answers.decisions.shape == answers.spread.shape == (0,)
    assert answers.warnings == ()


def test_openvino_decides_the_same(tmp_path, predictor, prepared, answers):
    pytest.importorskip("openvino")
    others = Predictor(predictor.bundle, "openvino", threads=1).answer(prepared)
    assert np.abs(others.probabilities - answers.probabilities).max() < 1e-4
    assert np.array_equal(others.decisions, answers.decisions)


def two_sizes(mode: str) -> list[dict]:
    """Members of which the first pads to 32 and the second sees 48 in another way."""
    members = make_contents()["members"]
    for member, (size, way) in zip(members, ((32, "pad"), (48, mode)), strict=True):
        steps = [{"resize": {"size": size, "mode": way}}]
        member["preprocessing"] = Preprocessing.from_steps(
            steps, (size, size), (0.5,) * 3, (0.25,) * 3
        ).to_dict()
    return members


def bright_place(tmp_path, mode: str, members: int) -> tuple[Predictor, list[Prepared]]:
    # Channel 0 of the map, alone, speaks for class 1: how bright the place is.
    weights = np.zeros((2, 4), np.float32)
    weights[1] = 1
    more = {"members/member1.onnx": make_graph(size=48, seed=0)}
    more |= {f"members/member{index}.heat.safetensors": save({HEAT: weights}) for index in range(2)}
    pixels = np.zeros((120, 240, 3), np.uint8)
    pixels[40:56, 160:184] = 255
    Image.fromarray(pixels).save(tmp_path / "bright.png")
    predictor = changed(tmp_path, more, members=two_sizes(mode)[:members])
    return predictor, prepared_by(predictor, [tmp_path / "bright.png"])


def test_members_of_several_sizes_answer_together(tmp_path, paths):
    more = {"members/member1.onnx": make_graph(size=48, seed=1)}
    predictor = changed(tmp_path, more, members=two_sizes("stretch"))
    prepared = prepared_by(predictor, paths[:3])
    assert [image.shape[:2] for image in prepared[0].images] == [(32, 32), (48, 48)]
    assert np.isfinite(predictor.answer(prepared).logits).all()


@pytest.mark.parametrize("mode", ["pad", "crop", "stretch"])
def test_heat_maps_of_members_with_other_frames_meet_at_the_same_place(tmp_path, mode):
    predictor, prepared = bright_place(tmp_path, mode, 2)
    [heat] = predictor.heat_maps(prepared, [1])
    assert heat.shape == (32, 32)
    assert heat.dtype == np.float32
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    # The bright place is at (48, 172) of 120 x 240, in the padded frame at (14, 23) of 32 x 32.
    assert abs(row - 14) <= 3
    assert abs(column - 23) <= 3


def test_the_heat_map_of_one_member_is_its_own(predictor, prepared, tmp_path):
    single = Predictor(open_bundle(make_bundle(tmp_path / "bundle", members=1)))
    [preprocessing] = single.preprocessings
    inputs = np.concatenate([preprocessing.normalise(one.images[0][None]) for one in prepared[:4]])
    maps = open_session(make_graph(seed=0)).run(inputs, ("map",))["map"]
    classes = np.array([0, 1, 1, 0])
    assert np.array_equal(
        single.heat_maps(prepared[:4], classes), heat_maps(maps, head_weights(2)[classes], (32, 32))
    )


def test_heat_maps_from_the_pass_that_answered_are_those_of_their_own_pass(tmp_path):
    predictor, prepared = bright_place(tmp_path, "pad", 2)
    answers = predictor.answer(prepared, maps=True)
    assert [maps.shape[0] for maps in answers.maps] == [len(prepared)] * 2
    assert predictor.answer(prepared).maps == ()
    classes = np.ones(len(prepared), int)
    from_answers = predictor.heat_maps(prepared, classes, answers.maps)
    assert np.array_equal(from_answers, predictor.heat_maps(prepared, classes))


def test_a_bundle_without_maps_says_that_it_has_none(tmp_path, paths):
    members = make_contents()["members"]
    for member in members:
        member["heat"] = None
    predictor = changed(tmp_path, members=members)
    assert not predictor.has_heat_maps
    with pytest.raises(UserError, match="has no heat maps"):
        predictor.heat_maps(prepared_by(predictor, paths[:1]), [0])


def test_what_the_header_and_the_steps_say_is_flagged(tmp_path, shared_data):
    members = make_contents()["members"]
    for member in members:
        member["preprocessing"] = Preprocessing.from_steps(
            ["crop-lungs", {"resize": {"size": 32}}], (32, 32), (0.5,) * 3, (0.25,) * 3
        ).to_dict()
    intended = {"modalities": ["CR", "DX"], "body_parts": ["CHEST"]}
    predictor = changed(tmp_path, members=members, intended=intended)
    prepared = prepared_by(predictor, [shared_data / "dicom/cr_other/RG2_J2KI.dcm"])
    [found] = predictor.answer(prepared).warnings
    assert [warning.key for warning in found if warning.key != "lungs-not-found"] == ["body-part"]
    assert found[0].found == "HIP"


def test_images_unlike_the_training_images_and_inverted_ones_are_flagged(tmp_path, shared_data):
    films = sorted((shared_data / "kermany/compact_224/train").rglob("*.jpeg"))[::80][:60]
    plain = changed(tmp_path / "plain")
    prepared = prepared_by(plain, films)
    [preprocessing] = plain.preprocessings
    inputs = np.concatenate([preprocessing.normalise(one.images[0][None]) for one in prepared])
    more, members = {}, make_contents()["members"]
    for index, member in enumerate(members):
        features = open_session(make_graph(seed=index)).run(inputs, (FEATURES,))[FEATURES]
        content = fit_reference(
            features[:40], features[40:], np.stack([thumbnail(one.images[0]) for one in prepared[:40]])
        )
        assert content is not None
        member["reference"] = f"members/member{index}.reference.safetensors"
        more[member["reference"]] = content
    predictor = changed(tmp_path / "with", more, members=members)

    answers = predictor.answer(prepared)
    assert answers.distances.shape == (2, 60)
    # The threshold is that of 20 images.
    assert sum(bool(found) for found in answers.warnings) <= 9

    leaf = next((shared_data / "beans/test").rglob("*.jpg"))
    [found] = predictor.answer(prepared_by(predictor, [leaf])).warnings
    assert "unlike" in [warning.key for warning in found]

    Image.fromarray(255 - np.asarray(Image.open(films[0]).convert("L"))).save(tmp_path / "inverted.png")
    [found] = predictor.answer(prepared_by(predictor, [tmp_path / "inverted.png"])).warnings
    assert "inverted" in [warning.key for warning in found]


def test_members_without_a_reference_have_no_distance(answers):
    assert np.isnan(answers.distances).all()
