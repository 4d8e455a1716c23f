import re

import pandas as pd
import pytest
from playwright.sync_api import sync_playwright

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.report.language import load
from freezeframe.verbs.study_report import study_report
from searches import make_search
from studies import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "skin"
    return make_study(folder, seeds=(0, 1), failed=["lite0-head-none-seed1"])


@pytest.fixture(scope="module")
def english(study):
    return study_report(study)


@pytest.fixture(scope="module")
def spanish(study):
    return study_report(study, study.parent / "informe.html", "es")


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    return make_search(tmp_path_factory.mktemp("studies") / "search", 18)


@pytest.fixture(scope="module")
def english_search(search):
    return study_report(search)


@pytest.fixture(scope="module")
def spanish_search(search):
    return study_report(search, search.parent / "informe.html", "es")


@pytest.fixture(scope="module")
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        context = browser.new_context(offline=True)
        opened, complaints = context.new_page(), []
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        yield opened
        browser.close()
        assert complaints == []


def test_the_page_names_no_address_and_stays_small(english):
    text = english.read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)


def test_tables_figures_and_a_row_for_each_training_lie_beside_the_page(study, english):
    beside = study / "report_files"
    assert english == study / "report.html"
    assert {"differences.svg", "cost-parameters.png"} <= {
        path.name for path in (beside / "figures").iterdir()
    }
    tables = {path.name for path in (beside / "tables").iterdir()}
    assert {"grid_roc_auc.csv", "grid_accuracy.tex", "comparisons_roc_auc.csv", "settings.csv"} <= tables
    table = pd.read_csv(beside / "results.csv")
    assert len(table) == len(pd.read_parquet(beside / "results.parquet")) == 24
    assert table["status"].value_counts().to_dict() == {"finished": 23, "failed": 1}


@pytest.mark.parametrize("name", ["english", "spanish", "english_search", "spanish_search"])
@pytest.mark.parametrize("width", [1280, 768, 360])
def test_nothing_hangs_over_the_edge_of_a_screen_of_any_width(name, width, request, page):
    page.goto(request.getfixturevalue(name).absolute().as_uri())
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    hanging = page.evaluate(
        """() => [...document.querySelectorAll('main *, header *')]
            .filter(e => !e.closest('.scroll, svg, pre') && e.getBoundingClientRect().right > innerWidth + 1)
            .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert hanging == []


def test_every_entry_of_the_contents_leads_to_a_section_with_a_heading(english, page):
    page.goto(english.absolute().as_uri())
    links = page.eval_on_selector_all(
        "nav a", "nodes => nodes.map(n => [n.getAttribute('href'), n.textContent])"
    )
    assert len(links) > 6
    for target, title in links:
        assert page.inner_text(f"{target} > h2") == title


def test_printing_unfolds_all_tables(english, page):
    page.goto(english.absolute().as_uri())
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0


@pytest.mark.parametrize("name", ["spanish", "spanish_search"])
def test_a_spanish_page_has_no_english_heading_and_writes_decimal_commas(name, request, page):
    page.goto(request.getfixturevalue(name).absolute().as_uri())
    page.evaluate("document.querySelectorAll('main details').forEach(node => { node.open = true })")
    assert page.get_attribute("html", "lang") == "es"
    messages = load("en").messages
    english = {text for text in messages.values() if isinstance(text, str)}
    english -= {load("es").messages[key] for key in messages if messages[key] == load("es").messages[key]}
    texts = page.eval_on_selector_all(
        "h1, h2, h3, caption, th, td, summary, figcaption, svg text, p",
        "nodes => nodes.map(n => n.textContent.trim())",
    )
    assert "Qué diferencias son reales" in texts
    assert [text for text in texts if text in english] == []
    assert not re.search(
        r"(?<![\w.-])\d\.\d", page.inner_text("main").replace(page.inner_text("#reproduce"), "")
    )


def test_a_searchs_page_begins_with_the_search_and_has_its_figures_and_tables_as_files(
    search, english_search, page
):
    page.goto(english_search.absolute().as_uri())
    assert page.inner_text("main > section:first-child > h2") == "The search"
    assert "The base recipe has" in page.inner_text(".answer")
    beside = search / "report_files"
    assert {"search-history.svg", "search-history.png"} <= {
        path.name for path in (beside / "figures").iterdir()
    }
    listed = pd.read_csv(beside / "tables" / "search_trials.csv")
    assert len(listed) == len(pd.read_csv(beside / "results.csv")) == 18
    assert (beside / "tables" / "search_top.tex").is_file()


def test_a_search_whose_first_trial_still_runs_has_a_page(tmp_path):
    folder = make_search(tmp_path / "s", 1)
    trials = files.read_json(folder / "trials.json")
    row = trials["trials"][0] | {"state": "running", "value": None, "seconds": None}
    files.write_json(folder / "trials.json", trials | {"trials": [row]})
    run = folder / "runs" / "trial-0000" / "run.json"
    files.write_json(run, files.read_json(run) | {"status": "running"})
    text = study_report(folder).read_text()
    assert "has no result yet" in text
    assert "Of one trial, one has begun." in text


def test_names_with_markup_are_shown_as_they_are(tmp_path, page):
    study = make_study(tmp_path / "s", {"augment": ("none", "flip")}, extras=False)
    cells = files.read_json(study / "cells.json")
    files.write_json(study / "cells.json", cells | {"name": "<script>alert(1)</script>"})
    page.goto(study_report(study).absolute().as_uri())
    assert "<script>alert(1)</script>" in page.inner_text("h1")


def test_a_study_without_any_result_has_a_page_that_says_so(tmp_path):
    study = make_study(tmp_path / "s", {"unfreeze": ("head",)}, waiting=["head-seed0"], extras=False)
    text = study_report(study).read_text()
    assert "has no result yet" in text
    assert "head-seed0" in text


def test_a_folder_that_is_no_study_a_folder_as_the_page_and_an_unknown_language_are_refused(study, tmp_path):
    with pytest.raises(UserError, match="freezeframe study run"):
        study_report(tmp_path)
    with pytest.raises(UserError, match=r"report\.html"):
        study_report(study, tmp_path)
    with pytest.raises(UserError, match="en or es"):
        study_report(study, lang="fr")
