import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page, sync_playwright
from safetensors.torch import save_file

from factories import make_manifest, make_run
from freezeframe import files
from freezeframe.backbones import zoo
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.report.language import load
from freezeframe.verbs.ensemble import ensemble
from freezeframe.verbs.evaluate import evaluate
from freezeframe.verbs.report import report

BEANS = ("angular_leaf_spot", "bean_rust", "healthy")
ODD_NAMES = ("<script>alert(1)</script>", "ΠΝΕΥΜΟΝΙΑ 肺炎")


def make_evaluation(
    folder: Path, names: tuple = ("normal", "pneumonia"), members: int = 2, **options
) -> Path:
    runs = [
        make_run(folder / "runs", f"lite{seed}", seed, 160, names, skill=1.0, images=True, **options)
        for seed in range(members)
    ]
    model = ensemble(runs, folder / "runs" / "all", "weighted") if members > 1 else runs[0]
    return evaluate(model, folder / "evaluation", bootstrap=100)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def english(evaluation) -> Path:
    return report(evaluation, evaluation.parent / "english.html", heat=False)


@pytest.fixture(scope="module")
def spanish(evaluation) -> Path:
    return report(evaluation, evaluation.parent / "informe.html", lang="es", heat=False)


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    made = make_evaluation(tmp_path_factory.mktemp("three"), BEANS, images_per_patient=2)
    return report(made, heat=False)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The page of one network, whose images are synthetic and whose classes have odd names."""
    folder = tmp_path_factory.mktemp("alone")
    plain = make_manifest(folder, 120)
    label = plain.table["label"].map(dict(zip(plain.classes, ODD_NAMES, strict=True)))
    manifest = Manifest(plain.table.assign(label=label, synthetic="true"), plain.root, ODD_NAMES)
    return report(make_evaluation(folder, members=1, manifest=manifest), heat=False)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    contexts, complaints = [], []

    def opened(path: Path, width: int = 1280, **options) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url)
                if not request.url.startswith(("file:", "data:image/"))
                else None
            ),
        )
        page.goto(path.absolute().as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


class Headings(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.images: list[dict] = []

    def handle_starttag(self, tag, attrs):
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "img":
            self.images.append(dict(attrs))


def test_the_page_names_no_address_and_stays_small(english):
    text = english.read_text()
    assert len(text) < 3_000_000
    text = re.sub(r"data:image/jpeg;base64,[^\"]+", "", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)


def test_the_same_evaluation_gives_the_same_bytes_in_another_process_and_without_torch(evaluation, english):
    again = evaluation.parent / "again.html"
    code = (
        "import sys; from freezeframe.verbs.report import report; "
        f"report({str(evaluation)!r}, {str(again)!r}, heat=False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert again.read_bytes() == english.read_bytes()
    for path in sorted((evaluation.parent / "english_files").rglob("*.*")):
        other = evaluation.parent / "again_files" / path.relative_to(evaluation.parent / "english_files")
        assert other.read_bytes() == path.read_bytes(), path.name


def test_figures_and_tables_lie_beside_the_page(evaluation, english):
    beside = evaluation.parent / "english_files"
    figures = {path.name for path in (beside / "figures").iterdir()}
    assert {"roc.svg", "roc.png", "precision-recall.svg", "reliability.svg", "training-1.svg"} <= figures
    table = pd.read_csv(beside / "tables" / "metrics.csv", index_col=0)
    stored = files.read_json(evaluation / "metrics.json")["ensemble"]["roc_auc"]
    assert table.loc["ROC AUC", "Ensemble"] == pytest.approx(stored["value"])
    assert table.loc["ROC AUC", "Ensemble (low)"] == pytest.approx(stored["low"])
    assert r"\toprule" in (beside / "tables" / "metrics.tex").read_text()


def test_headings_go_down_one_level_at_a_time_and_every_image_has_words(english):
    page = Headings()
    page.feed(english.read_text())
    assert page.levels[0] == 1
    assert page.levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.levels, page.levels[1:], strict=False))
    assert page.images
    assert all(image["alt"] for image in page.images)


def test_the_slider_moves_by_key_and_its_numbers_are_those_of_the_predictions(evaluation, english, open_page):
    page = open_page(english)
    table = pd.read_parquet(evaluation / "predictions.parquet")
    positive = (table["label"] == "pneumonia").to_numpy()
    point = files.read_json(evaluation / "metrics.json")["operating_point"]
    assert page.inner_text("#sensitivity-now") == load("en").percent(point["sensitivity"]["value"])
    interval = load("en").percent_interval(point["specificity"]["low"], point["specificity"]["high"])
    assert interval in page.inner_text("#specificity-range")
    before = page.inner_text("#threshold-now")
    page.focus("#slider")
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#threshold-now") != before
    place = int(page.input_value("#slider"))
    threshold = json.loads(page.inner_text("#sweep", timeout=1000) or page.text_content("#sweep"))["classes"][
        0
    ]["thresholds"][place]
    called = table["probability_pneumonia"].to_numpy() >= threshold
    counts = {
        "tp": called & positive,
        "fn": ~called & positive,
        "fp": called & ~positive,
        "tn": ~called & ~positive,
    }
    assert {key: int(page.inner_text(f"#{key}")) for key in counts} == {
        key: int(v.sum()) for key, v in counts.items()
    }
    assert page.inner_text("#sensitivity-now") == load("en").percent(float(called[positive].mean()))
    assert page.inner_text("#npv-now") == load("en").percent(float((~positive)[~called].mean()))
    page.click("#back")
    assert page.inner_text("#threshold-now") == before


@pytest.mark.parametrize("name", ["english", "spanish", "three", "alone"])
def test_nothing_hangs_over_the_edge_of_a_screen_of_any_width(name, request, open_page):
    page = open_page(request.getfixturevalue(name))
    for width in (1280, 768, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        hanging = page.evaluate(
            """() => [...document.querySelectorAll('main *, header *')]
                .filter(e => !e.closest('.scroll, svg, pre') && e.getBoundingClientRect().right > innerWidth + 1)
                .map(e => e.outerHTML.slice(0, 80))"""
        )
        assert hanging == [], width


def test_without_scripts_the_thresholds_are_there_as_a_table(english, open_page):
    page = open_page(english, java_script_enabled=False)
    assert not page.is_visible("#slider")
    assert "(operating point)" in page.inner_text("#threshold")


def test_printing_unfolds_the_recipes_and_clips_no_table(english, open_page):
    page = open_page(english, 718)  # A4 less its margins, in CSS pixels
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.is_visible("details pre")
    clipped = page.evaluate(
        "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > 719).length"
    )
    assert clipped == 0


def test_a_spanish_page_has_no_english_heading_and_writes_decimal_commas(spanish, open_page):
    page = open_page(spanish)
    assert page.get_attribute("html", "lang") == "es"
    english = {value for value in load("en").messages.values() if isinstance(value, str)}
    same = {
        load("es").messages[key]
        for key, value in load("en").messages.items()
        if value == load("es").messages[key]
    }
    texts = page.eval_on_selector_all(
        "h1, h2, h3, h4, caption, th, dt, summary, figcaption, button, svg text",
        "nodes => nodes.map(n => n.textContent.trim())",
    )
    assert "Elegir un umbral" in texts
    assert [text for text in texts if text in english - same] == []
    assert page.eval_on_selector_all("main [lang=en]", "nodes => nodes.map(n => n.textContent)") == [
        "These images are made up for a test."
    ]
    assert "los intervalos son amplios" in page.inner_text("#data")
    seen = page.inner_text("body")
    assert not re.search(r"(?<![\w.-])\d\.\d", seen.replace(page.inner_text("#reproduce"), ""))


def test_three_classes_have_a_table_of_their_own_and_a_choice_for_the_slider(three, open_page):
    page = open_page(three)
    assert all(name in page.inner_text("#classes") for name in BEANS)
    page.select_option("#class", label="healthy")
    assert page.inner_text("#positive-name") == "healthy"
    assert page.inner_text("#sensitivity-range") == ""  # two images a patient: Wilson's is too narrow


def test_one_network_alone_is_not_called_an_ensemble(alone):
    text = alone.read_text()
    assert "the network lite0 gave the higher score" in text
    assert "Ensemble −" not in text


def test_synthetic_images_are_announced_above_everything(alone):
    text = alone.read_text()
    assert text.index("Synthetic images.") < text.index('class="answer"')


def test_moved_runs_and_images_leave_a_page_that_says_so(evaluation, tmp_path):
    lonely = tmp_path / "evaluation"
    shutil.copytree(evaluation, lonely)
    details = files.read_json(lonely / "evaluation.json")
    files.write_json(lonely / "evaluation.json", details | {"root": str(tmp_path / "gone")})
    text = report(lonely).read_text()
    assert "The image file is no longer where it was." in text
    assert "The run folders were not found" in text
    assert "There are no heat maps" in text


def test_names_in_any_script_and_with_markup_are_shown_as_they_are(alone, open_page):
    heading = open_page(alone).inner_text("h1")
    assert all(name in heading for name in ODD_NAMES)


def test_a_folder_that_is_no_evaluation_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(UserError, match="freezeframe evaluate"):
        report(tmp_path)


def test_an_evaluation_without_its_figures_is_refused(evaluation, tmp_path):
    shutil.copytree(evaluation, tmp_path / "evaluation")
    files.write_json(tmp_path / "evaluation" / "metrics.json", {"schema_version": 1})
    with pytest.raises(UserError, match="Evaluate again"):
        report(tmp_path / "evaluation", heat=False)


def test_a_folder_as_the_page_is_refused(evaluation, tmp_path):
    with pytest.raises(UserError, match=r"report\.html"):
        report(evaluation, tmp_path, heat=False)


def test_the_gallery_shows_the_most_confident_images_of_each_class(evaluation, english):
    table = pd.read_parquet(evaluation / "predictions.parquet")
    own = table[table["label"] == "pneumonia"]
    probability = own["probability_pneumonia"].to_numpy()
    text = english.read_text()
    assert own["image"].iloc[int(np.argmax(probability))] in text
    assert own["image"].iloc[int(np.argmin(probability))] in text


def test_a_trained_network_shows_where_it_looked_beside_each_image(tmp_path):
    folder = make_evaluation(tmp_path, members=1)
    run = tmp_path / "runs" / "lite0"
    network = zoo.build("efficientnet-lite0", 2, "none")
    save_file(network.module.state_dict(), run / "checkpoints" / "best.safetensors")
    steps = Preprocessing.from_steps(None, (96, 96), (0.5,) * 3, (0.5,) * 3)
    files.write_json(run / "run.json", files.read_json(run / "run.json") | {"preprocessing": steps.to_dict()})
    text = report(folder).read_text()
    assert text.count('alt="Heat map of the decision') == text.count('alt="Image of') > 4
    assert "It shows where a network looked, not why" in text
