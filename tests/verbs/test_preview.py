"""The sheet of what the network will really see."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import freezeframe
from freezeframe.cli.main import app
from freezeframe.errors import UserError
from freezeframe.imaging.steps import NOTES
from freezeframe.verbs import preview_sheet
from freezeframe.verbs.preview_words import WORDS, caption


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Two classes of noisy images, some of which are flat, and one that can't be read."""
    root = tmp_path_factory.mktemp("colours")
    for label, shade in (("dark", 60), ("light", 180)):
        (root / label).mkdir()
        for number in range(24):
            pixels = np.random.default_rng(number).normal(shade, 9, (50, 60, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / label / f"{number}.png")
    return root


def fields(folder, **changes):
    return {"data": str(folder), "backbone": "resnet18", "preprocess": [{"resize": {"size": 48}}], **changes}


@pytest.fixture
def drawn(monkeypatch):
    """Return the rows and headings that the sheet is drawn from; it is drawn all the same."""
    kept = {}
    original = preview_sheet.draw

    def draw(path, title, headings, rows, facts):
        kept.update(title=title, headings=headings, rows=rows, facts=facts)
        original(path, title, headings, rows, facts)

    monkeypatch.setattr(preview_sheet, "draw", draw)
    return kept


def test_it_shows_images_of_each_class_after_each_step_and_in_each_view(colours, tmp_path, drawn):
    recipe = fields(colours, augment="flip-brightness", views=3)
    result = freezeframe.preview(recipe, tmp_path / "sheet.png", images=4)
    assert [row.label for row in drawn["rows"]] == ["dark", "light", "dark", "light"]
    assert [heading.split("\n")[0] for heading in drawn["headings"]] == [
        "as decoded", "resize", "view 0", "view 1", "view 2",
    ]  # fmt: skip
    assert all(len(row.cells) == 5 for row in drawn["rows"])
    assert drawn["rows"][0].cells[0].lines == ("50 x 60",)
    assert drawn["rows"][0].cells[1].lines == ("48 x 48",)
    with Image.open(result.path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000


def test_view_0_shows_the_prepared_image_after_normalising_and_back(colours, tmp_path, drawn):
    freezeframe.preview(fields(colours), tmp_path / "sheet.png", images=2)
    for row in drawn["rows"]:
        np.testing.assert_allclose(row.cells[2].pixels, row.cells[1].pixels / 255, atol=1e-5)


def test_views_are_those_that_training_sees(colours, tmp_path, drawn):
    from freezeframe.backbones.catalogue import describe
    from freezeframe.data.sources import read_manifest
    from freezeframe.data.splits import make_splits
    from freezeframe.imaging.augment import Policy
    from freezeframe.recipe import Recipe
    from freezeframe.stores.pixels import Pixels
    from freezeframe.training.assembly import preprocessing_of
    from freezeframe.training.views import Views

    recipe = Recipe.parse(fields(colours, augment="mixup", views=2, augment_seed=7))
    freezeframe.preview(recipe, tmp_path / "sheet.png", images=3)
    manifest = make_splits(read_manifest(recipe.data), recipe.split, recipe.seed).subset("train")
    preprocessing = preprocessing_of(recipe, describe(recipe.backbone))
    pixels = Pixels(tmp_path / "store", preprocessing)
    pixels.fill(manifest)
    views = Views(pixels, preprocessing, manifest.keys(), manifest.keys(), Policy.named("mixup"), 7)
    for row in drawn["rows"]:
        index = manifest.table["image"].tolist().index(row.name)
        expected = views.batch([(index, 1)])[0].transpose(1, 2, 0)
        shown = (row.cells[-1].pixels - preprocessing.mean) / preprocessing.std
        np.testing.assert_allclose(shown, expected, atol=1e-4)


def test_a_step_that_fell_back_is_counted_and_marked(colours, tmp_path, drawn):
    result = freezeframe.preview(fields(colours, preprocess=["crop-lungs"]), tmp_path / "sheet.png", images=3)
    assert result.notes == {"lungs-not-found": 3}
    assert "whole image kept" in drawn["rows"][0].cells[1].warning


def test_an_unreadable_image_is_passed_over_and_named(colours, tmp_path):
    for number in range(23):
        (colours / "dark" / f"broken{number}.png").write_bytes(b"no image")
    result = freezeframe.preview(fields(colours), tmp_path / "sheet.png", images=12)
    for number in range(23):
        (colours / "dark" / f"broken{number}.png").unlink()
    assert len(result.images) == 12
    assert result.unreadable
    assert all("broken" in entry for entry in result.unreadable)


def test_wrong_arguments_are_refused_before_the_work(colours, tmp_path):
    with pytest.raises(UserError, match="1 to 40"):
        freezeframe.preview(fields(colours), tmp_path / "sheet.png", images=0)
    with pytest.raises(UserError, match="no language 'fr'"):
        freezeframe.preview(fields(colours), tmp_path / "sheet.png", lang="fr")
    assert not (tmp_path / "sheet.png").exists()


def test_the_command_draws_the_sheet_and_says_in_spanish_what_fell_back(colours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(f"data: {colours}\nbackbone: resnet18\n")
    answer = CliRunner().invoke(
        app,
        [
            "data",
            "preview",
            "recipe.yaml",
            "--images",
            "2",
            "--lang",
            "es",
            "--set",
            "preprocess=[crop-lesion]",
        ],
    )
    assert answer.exit_code == 0, answer.output
    assert "Guardado: preview.png" in answer.output
    assert "En 2 de las 2 imágenes mostradas" in answer.output
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")


def test_english_and_spanish_have_the_same_words_and_placeholders():
    import re

    assert WORDS["en"].keys() == WORDS["es"].keys()
    assert set(NOTES) <= WORDS["en"].keys()
    for key, sentence in WORDS["en"].items():
        assert sorted(re.findall(r"\{\w+\}", sentence)) == sorted(re.findall(r"\{\w+\}", WORDS["es"][key])), (
            key
        )


def test_whatever_is_drawn_has_a_caption_in_both_languages():
    from freezeframe.imaging.augment import POLICIES, Policy, draw, partner_of

    for name in set(POLICIES) - {"none"}:
        policy = Policy.named({"policy": name, **({"operations": 10} if name == "randaugment-grey" else {})})
        for view in range(1, 30):
            parameters = draw(policy, 0, "image", view, ["other"])
            for lang in ("en", "es"):
                lines = caption(parameters, lang, "cat" if partner_of(parameters) else "")
                assert bool(lines) == bool(parameters)
