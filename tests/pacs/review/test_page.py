"""The page in a real browser, before a real node with a few weeks in it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from page_browser import (
    SECONDS,
    ServedNode,
    box,
    launch,
    log_in,
    pixels,
    serving_node,
    wait,
)
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from seeded_node import CARD_BOX, DRIFT
from sqlalchemy import select

from freezeframe.pacs.review.page import FOLDER
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import (
    DELIVERY_WAITING,
    DELIVERY_WITHHELD,
    QUARANTINED,
    Cursor,
    Delivery,
    Feedback,
    Job,
    Login,
    Result,
    ResultObject,
    Study,
)

expect.set_options(timeout=1000 * SECONDS)
SIZES = [(1920, 1080), (1024, 768), (768, 1024)]
NOTICES = {
    "en": ("AI result, not verified", "Research use, not a medical device"),
    "es": ("Resultado de IA, no verificado", "Uso en investigación, no es un producto sanitario"),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[ServedNode]:
    with serving_node(tmp_path_factory.mktemp("node"), shadow=True) as node:
        yield node


@pytest.fixture(scope="module")
def browsers() -> Iterator[dict[str, Browser]]:
    with sync_playwright() as playwright:
        started = {"webgl": launch(playwright, True), "no webgl": launch(playwright, False)}
        yield started
        for browser in started.values():
            browser.close()


@pytest.fixture
def browser(browsers) -> Browser:
    """Without WebGL, which software draws slowly."""
    return browsers["no webgl"]


@pytest.fixture(params=["webgl", "no webgl"])
def each_browser(request, browsers) -> Browser:
    return browsers[request.param]


def rows(page: Page) -> Locator:
    return page.locator("tr.row")


def test_only_those_with_a_password_come_in(served, browser):
    with served.page(browser, user=None) as page:
        page.goto(served.address)
        log_in(page, "reader-1", "not the right words")
        expect(page.get_by_role("alert")).to_have_text("User or password is wrong.")
        log_in(page, "reader-1")
        expect(rows(page).first).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.locator("input[name=password]")).to_be_visible()
        page.goto(f"{served.address}/dashboard")
        expect(page.locator("input[name=password]")).to_be_visible()


def test_whose_session_has_ended_is_told_so(served, browser):
    with served.page(browser, user=None) as page:
        page.goto(served.address)
        log_in(page, "viewer-1")
        with served.node.database.transaction() as session:
            for login in session.scalars(select(Login).where(Login.user == "viewer-1")):
                session.delete(login)
        expect(page.get_by_text("Your session has ended")).to_be_visible()
    served.states.pop("viewer-1", None)


def test_the_worklist_shows_the_most_urgent_first_and_filters(served, browser):
    with served.page(browser) as page:
        page.goto(served.address)
        first = rows(page).first
        expect(first).to_contain_text("PHANTOM 0001")
        expect(first).to_contain_text(re.compile("Positive.*95.7%.*pneumonia.*P0001.*Done"))
        assert first.locator(".mark").count() == 1  # the threshold
        page.get_by_label("Order").select_option("newest")
        expect(rows(page).first).to_contain_text("Receiving")
        page.get_by_label("Outcome").select_option("refused")
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text("PHANTOM 0050")
        page.get_by_label("Outcome").select_option("")
        page.get_by_label("Feedback").select_option("correct")
        expect(rows(page).filter(has_text="PHANTOM 0006")).to_be_visible()
        page.get_by_label("Feedback").select_option("")
        page.get_by_role("searchbox").fill("phantom p0004")
        expect(rows(page)).to_have_count(1)
        expect(page.get_by_text("1 study", exact=True)).to_be_visible()
        page.get_by_role("searchbox").fill("nobody")
        expect(page.get_by_text("No study fits these filters.")).to_be_visible()
        assert "phantom" not in page.url  # the page's own address holds no names


def test_the_worklist_renews_itself_and_keeps_its_place(served, browser):
    with served.page(browser, size=(1280, 500)) as page:
        page.goto(served.address)
        page.get_by_label("Order").select_option("newest")
        chosen = page.locator(f"[id='row-{served.node.uids['urgent']}']")
        for _ in range(40):
            page.keyboard.press("n")
            if chosen.get_attribute("aria-selected") == "true":
                break
        page.locator(".list").evaluate("list => { list.scrollTop = 150 }")
        place = top(chosen)
        with served.node.database.transaction() as session:
            session.add(
                Study(
                    study_uid="1.2.3.4.5", patient_name="PHANTOM^NEW", source="xray-room", state="receiving", images=1,
                    modalities="DX", first_at=served.node.now + 60, last_at=served.node.now + 60,
                )
            )  # fmt: skip
        expect(rows(page).filter(has_text="PHANTOM NEW")).to_be_attached()
        assert chosen.get_attribute("aria-selected") == "true"
        assert top(chosen) == pytest.approx(place, abs=2)  # though there is a row more above it
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("PHANTOM 0001")
        page.go_back()
        expect(chosen).to_have_attribute("aria-selected", "true")
        assert page.get_by_label("Order").input_value() == "newest"
    with served.node.database.transaction() as session:
        session.delete(session.scalars(select(Study).where(Study.study_uid == "1.2.3.4.5")).one())


def top(place: Locator) -> float:
    found = place.bounding_box()
    assert found is not None
    return found["y"]


def test_a_quarantined_study_says_why_and_only_administrators_have_it_read_again(served, browser):
    uid = served.node.uids["quarantined"]
    with served.page(browser) as page:
        page.goto(served.address)
        row = page.locator(f"[id='row-{uid}']")
        expect(row).to_contain_text("The worker was stopped: more than 120 s.")
        assert row.get_by_role("button").count() == 0
    with served.page(browser, user="admin-1") as page:
        page.goto(served.address)
        row = page.locator(f"[id='row-{uid}']")
        row.get_by_role("button", name="Read again").click()
        expect(row).not_to_contain_text("Quarantined")
    with served.node.database.reading() as session:
        study = session.scalars(select(Study).where(Study.study_uid == uid)).one()
        assert study.state != QUARANTINED
        jobs = session.scalars(select(Job).where(Job.study_id == study.id)).all()
        assert [job.state for job in jobs] == ["waiting"]


def test_the_heat_map_lies_where_it_belongs_however_the_image_is_moved(served, each_browser):
    with served.page(each_browser) as page:
        frame = served.open_study(page, "card", heat=True)
        page.get_by_label("Opacity of the heat map").fill("1")
        scale = check_registration(page, frame)
        before = card(frame)
        middle = frame.bounding_box()
        assert middle is not None
        x, y = middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2
        page.mouse.move(x, y)
        for _ in range(5):
            page.mouse.wheel(0, -100)
            page.wait_for_timeout(50)
        wait(lambda: width(card(frame)) > 1.05 * width(before))
        page.mouse.down(button="middle")
        page.mouse.move(x - 60, y + 35, steps=4)
        page.mouse.up(button="middle")
        zoomed = card(frame)
        wait(lambda: abs(card(frame)[0] - zoomed[0]) < 1)  # it stands still
        assert check_registration(page, frame) > scale
        page.keyboard.press("r")
        wait(lambda: np.abs(card(frame) - before).max() <= 1)
        assert check_registration(page, frame) == pytest.approx(scale, rel=0.02)


def card(frame: Locator) -> np.ndarray:
    """Where the white box of the test card is seen, or what lies over it."""
    return box(pixels(frame)[..., 0] > 110)


def width(seen: np.ndarray) -> int:
    return int(seen[2] - seen[0])


def check_registration(page: Page, frame: Locator) -> float:
    """Compare image, heat map and outline by what is seen of each; return pixels of the screen a pixel of the image."""
    page.keyboard.press("h")
    page.keyboard.press("o")
    expect(page.locator(".frame[data-heat=false]")).to_be_attached()
    plain = pixels(frame)
    film = box(plain.min(axis=2) > 110)
    left, top, right, bottom = CARD_BOX
    scale = width(film) / (right - left)
    assert (film[3] - film[1]) / (bottom - top) == pytest.approx(scale, rel=0.03)
    page.keyboard.press("h")
    expect(page.locator(".frame[data-heat=true]")).to_be_attached()
    hot = box(np.abs(pixels(frame) - plain).max(axis=2) > 60)
    page.keyboard.press("h")
    page.keyboard.press("o")
    expect(page.get_by_role("button", name="Outline")).to_have_attribute("aria-pressed", "true")
    outlined = pixels(frame)
    line = box((outlined[..., 2] > 200) & (outlined[..., 0] < 140) & (plain[..., 0] < 140))
    page.keyboard.press("h")
    assert np.abs(hot - film).max() <= 1.5 + scale  # its pixels are twice as large, and smoothed
    assert np.abs(line - film).max() <= 4  # half a line's width, and the screen's rounding
    return scale


def test_keys_and_mouse_change_how_the_image_is_seen(served, each_browser):
    with served.page(each_browser) as page:
        frame = served.open_study(page, "negative")
        plain = pixels(frame)
        page.keyboard.press("i")
        wait(lambda: pixels(frame)[300, 350:450].mean() != plain[300, 350:450].mean())
        inverted = pixels(frame)
        seen = (plain[200:400, 350:450, 0] + inverted[200:400, 350:450, 0]) / 255
        assert np.abs(seen - 1).mean() < 0.03
        page.keyboard.press("r")
        wait(lambda: np.abs(pixels(frame) - plain).mean() < 0.5)
        area = frame.bounding_box()
        assert area is not None
        page.mouse.move(area["x"] + 300, area["y"] + 300)
        page.mouse.down()
        page.mouse.move(area["x"] + 300, area["y"] + 420, steps=5)
        page.mouse.up()
        wait(lambda: abs(pixels(frame)[300, 350:450].mean() - plain[300, 350:450].mean()) > 3)
        page.keyboard.press("r")
        wait(lambda: np.abs(pixels(frame) - plain).mean() < 0.5)
        page.mouse.down(button="right")
        page.mouse.move(area["x"] + 300, area["y"] + 470, steps=5)
        page.mouse.up(button="right")
        wait(lambda: np.abs(pixels(frame) - plain).mean() > 2)  # it is zoomed


def test_fingers_zoom_and_the_heat_map_goes_along(served, browser):
    with served.page(browser, size=(1024, 768), has_touch=True) as page:
        frame = served.open_study(page, "card", heat=True)
        page.get_by_label("Opacity of the heat map").fill("1")
        before = card(frame)
        area = frame.bounding_box()
        assert area is not None
        x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
        fingers = page.context.new_cdp_session(page)

        def touch(kind: str, apart: int) -> None:
            points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
            fingers.send(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": points if kind != "touchEnd" else []},
            )

        touch("touchStart", 30)
        page.wait_for_timeout(400)  # Cornerstone takes a touch for a tap until then
        for apart in range(32, 42, 2):
            touch("touchMove", apart)
            page.wait_for_timeout(20)
        touch("touchEnd", 0)
        wait(lambda: width(card(frame)) > 1.03 * width(before))
        check_registration(page, frame)


def test_the_heat_map_fades_with_its_slider(served, browser):
    with served.page(browser) as page:
        frame = served.open_study(page, "card", heat=True)
        page.keyboard.press("o")
        blue = []
        for opacity in ("0", "0.5", "1"):
            page.get_by_label("Opacity of the heat map").fill(opacity)
            seen = pixels(frame)
            left, top, right, bottom = box(seen[..., 0] > 110)
            blue.append(seen[(top + bottom) // 2, (left + right) // 2, 2])
        assert blue[0] > blue[1] + 20 > blue[2] + 40


def test_readers_judge_with_one_key(served, browser):
    with served.page(browser) as page:
        served.open_study(page, "doubtful")
        page.get_by_label("Remark").fill("Seen on the lateral view.")
        page.keyboard.type(" add")  # keys that are typed are no verdicts
        page.keyboard.press("Escape")
        page.keyboard.press("a")
        expect(page.get_by_text("Saved.")).to_be_visible()
        expect(page.locator(".said")).to_contain_text("Agreed reader-1")
        page.keyboard.press("c")
        expect(page.get_by_text("What is right?")).to_be_visible()
        page.keyboard.press("3")
        expect(page.locator(".said")).to_contain_text("Corrected other")
        page.keyboard.press("d")
        expect(page.locator(".said")).to_contain_text("Disagreed")
        expect(page.get_by_role("button", name="Disagree")).to_have_attribute("aria-pressed", "true")
    with served.node.database.reading() as session:
        query = select(Feedback.verdict, Feedback.label, Feedback.remark).join(Result).join(Study)
        said = session.execute(
            query.where(Study.study_uid == served.node.uids["doubtful"]).order_by(Feedback.id)
        ).all()
    assert [tuple(entry) for entry in said] == [
        ("agree", "", "Seen on the lateral view. add"),
        ("correct", "other", ""),
        ("disagree", "", ""),
    ]


def test_viewers_see_and_judge_nothing(served, browser):
    with served.page(browser, user="viewer-1") as page:
        served.open_study(page, "urgent")
        expect(page.get_by_text("Your role may not give feedback.")).to_be_visible()
        assert page.get_by_role("button", name="Agree").count() == 0
        page.keyboard.press("a")
        page.goto(f"{served.address}/audit")
        expect(page.get_by_text("Only administrators may see this.")).to_be_visible()
    with served.node.database.reading() as session:
        assert session.scalars(select(Feedback).where(Feedback.user == "viewer-1")).all() == []


def test_the_study_says_how_the_answer_came_about(served, browser):
    with served.page(browser) as page:
        served.open_study(page, "second")
        panel = page.locator(".panel")
        expect(panel).to_contain_text(re.compile(r"Positive\s*pneumonia"))
        expect(panel).to_contain_text("71.2%")
        expect(panel).to_contain_text("Threshold 42.0% (screening)")
        expect(panel.locator(".warnings li")).to_have_text([re.compile("view LL"), re.compile("border")])
        expect(panel).to_contain_text(re.compile("lite0.*66.2%.*lite1.*71.2%.*lite2.*74.0%"))
        expect(panel).to_contain_text("The connection was refused.")
        assert panel.get_by_role("button", name="Retry").count() == 0
        served.open_study(page, "urgent")
        panel.get_by_role("link", name=re.compile("2025-11-14")).click()
        expect(page.locator(".study-head")).to_contain_text("2025-11-14")


def test_administrators_have_a_delivery_tried_again(served, browser):
    with served.page(browser, user="admin-1") as page:
        served.open_study(page, "second")
        page.get_by_role("button", name="Retry").click()
        wait(lambda: _waiting(served)[0].not_before > served.node.now)


def _waiting(served: ServedNode) -> list[Delivery]:
    with served.node.database.reading() as session:
        return list(session.scalars(select(Delivery).where(Delivery.state == "waiting")))


def test_n_and_p_go_through_the_studies_in_the_order_of_the_worklist(served, browser):
    with served.page(browser) as page:
        page.goto(served.address)
        rows(page).first.wait_for()
        names = rows(page).locator(".patient").all_inner_texts()
        rows(page).first.click()
        expect(page.locator("h1")).to_have_text(names[0])
        page.keyboard.press("n")
        expect(page.locator("h1")).to_have_text(names[1])
        page.keyboard.press("p")
        expect(page.locator("h1")).to_have_text(names[0])
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("next study")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).not_to_be_visible()


def test_a_script_in_the_patients_name_is_only_text(served, browser):
    with served.page(browser) as page:
        served.open_study(page, "card")
        expect(page.locator("h1")).to_contain_text("<script>alert(1)</script>")
        expect(page.locator(".study-head")).to_contain_text("<b>Test card</b>")
        assert page.locator("h1 *, .person b, #page img").count() == 0


@pytest.mark.parametrize("language", ["en", "es"])
def test_every_page_says_what_it_is_not(served, browser, language):
    with served.page(browser, user="admin-1", locale=f"{language}-XX") as page:
        page.goto(served.address)
        # The node's own language would win over the browser's, so it is chosen.
        page.locator(f".languages button[lang={language}]").click()
        for path in ("/", "/dashboard", "/audit", f"/study/{served.node.uids['urgent']}"):
            page.goto(served.address + path)
            for notice in NOTICES[language]:
                expect(page.locator(".notice")).to_contain_text(notice)
            expect(page.locator(".shadow-mode")).to_be_visible()
            assert page.locator("html").get_attribute("lang") == language
        expect(page.locator(".stamp")).to_have_text(NOTICES[language][0])


def test_warnings_come_in_the_readers_language(served, browser):
    with served.page(browser) as page:
        page.goto(served.address)
        page.locator(".languages button[lang=es]").click()
        served.open_study(page, "second")
        expect(page.locator(".warnings").first).to_contain_text("La cabecera DICOM indica la proyección LL")
        expect(page.locator(".panel")).to_contain_text("71,2 %")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("language", ["en", "es"])
def test_pages_fit_the_screen_and_the_finger(served, browser, size, language):
    with served.page(browser, user="admin-1", size=size) as page:
        page.goto(served.address)
        page.locator(f".languages button[lang={language}]").click()
        for path, ready in (
            ("/", "tr.row"),
            ("/dashboard", ".card"),
            (f"/study/{served.node.uids['second']}", ".frame[data-busy=false]"),
        ):
            page.goto(served.address + path)
            page.locator(ready).first.wait_for()
            assert page.evaluate(TOO_WIDE) == [], path
            assert page.evaluate(TOO_SMALL) == [], path
            assert page.evaluate(TOO_FAINT) == [], path


# What reaches over its box or the window's right edge.
TOO_WIDE = """() => [...document.querySelectorAll('#page *')]
    .filter(e => e.checkVisibility() && !e.closest('svg, .hidden, .skip, .scroll, .viewport'))
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1
        || (e.matches('button, .button, .list, .panel, .dashboard') && e.scrollWidth > e.clientWidth + 1))
    .map(e => e.outerHTML.slice(0, 120))"""

# WCAG 2.2, success criterion 2.5.5: 44 pixels; links inside text and in rows that are links as a whole are excepted.
TOO_SMALL = """() => [...document.querySelectorAll('button, select, input, .button, nav a, summary, .previous a')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 43.5)
    .map(e => e.outerHTML.slice(0, 120))"""

# WCAG 2.2, success criterion 1.4.3 (AA): contrast of 4.5 between text and ground, but for disabled controls.
TOO_FAINT = """() => {
    const parse = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
    const light = rgb => {
        const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = rgb.slice(0, 3).map(v => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = e => {
        for (; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length === 3) return colour;
        }
        return [11, 14, 19];
    };
    const faint = [];
    for (const e of document.querySelectorAll('#page *')) {
        const hasText = [...e.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!hasText || !e.checkVisibility() || e.closest('svg, :disabled, .stamp')) continue;
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((p, q) => q - p);
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(e.outerHTML.slice(0, 120));
    }
    return faint;
}"""


def test_the_dashboard_shows_the_numbers_of_the_node(served, browser):
    with served.page(browser) as page:
        page.goto(f"{served.address}/dashboard")
        answer = page.evaluate("() => fetch('/api/dashboard?days=90').then(answer => answer.json())")
        for name in ("sensitivity", "specificity"):
            figure = page.locator(".figure").filter(has_text=name.capitalize())
            rate = answer[name]
            expect(figure).to_contain_text(f"{100 * rate['value']:.1f}%")
            expect(figure).to_contain_text(
                f"{100 * rate['low']:.1f}% – {100 * rate['high']:.1f}% · n = {rate['n']}"
            )
        charts = page.locator("svg.chart")
        expect(charts).to_have_count(3)
        over_time = page.get_by_role("img", name="Sensitivity and specificity over time")
        assert over_time.locator("circle").count() == sum(
            week["sensitivity"]["value"] is not None for week in answer["over_time"]
        )
        expect(page.locator(".card").filter(has_text="Drift")).to_contain_text(
            "scores (against the validation images)"
        )
        alarm = page.locator(".alarms")
        expect(alarm).to_contain_text("default: scores (against the validation images)")
        expect(alarm).to_contain_text("0.21, limits 0 to 0.17 (mean 0.41, usual 0.28).")
        page.get_by_role("button", name="30 days").click()
        days = page.get_by_role("img", name="Studies a day")
        expect(days.locator("g > title")).to_have_count(30)


def test_administrators_read_the_audit_trail(served, browser):
    with served.page(browser, user="admin-1") as page:
        page.goto(f"{served.address}/audit")
        expect(page.locator(".audit")).to_contain_text("audit trail read")
        expect(page.locator(".audit")).to_contain_text("users changed")


def test_alarms_and_the_audit_trail_come_in_the_readers_language(served, browser):
    with served.page(browser, user="admin-1") as page:
        page.goto(f"{served.address}/dashboard")
        page.locator(".languages button[lang=es]").click()
        expect(page.locator(".alarms")).to_contain_text("probabilidades (frente a las de validación)")
        expect(page.locator(".alarms")).to_contain_text(
            "0,21, límites de 0 a 0,17 (media 0,41, habitual 0,28)."
        )
        expect(page.locator(".card").filter(has_text="Deriva")).to_contain_text("entrada: mean")
        page.goto(f"{served.address}/audit")
        expect(page.locator(".audit")).to_contain_text("registro de auditoría leído")


@pytest.mark.parametrize("language", ["en", "es"])
def test_whatever_can_be_in_the_audit_trail_has_words(language):
    words = (Path(__file__).parents[3] / "web" / "src" / "words" / f"{language}.ts").read_text()
    said = [value for name, value in vars(audit).items() if name.isupper() and isinstance(value, str)]
    said = [
        value for value in said if value not in (audit.NODE, audit.SUCCESS, audit.FAILURE, audit.BEGINNING)
    ]
    assert len(said) > 20
    assert not [value for value in said if f"  audit_{value.replace(' ', '_')}: " not in words]


def test_an_administrator_withholds_a_delivery(served, browser):
    with served.node.database.transaction() as session:
        row = session.scalars(select(Delivery).where(Delivery.state == DELIVERY_WAITING)).first()
        delivery, result = row.id, session.get_one(ResultObject, row.object_id).result_id
        study = session.get_one(Study, session.get_one(Result, result).study_id)
        address, state = f"{served.address}/study/{study.study_uid}", study.state
    with served.page(browser, user="reader-1") as page:
        page.goto(address)
        expect(page.locator(".deliveries li").first).to_be_attached()
        expect(page.get_by_role("button", name="Withhold")).to_have_count(0)
    with served.page(browser, user="admin-1") as page:
        page.goto(address)
        page.get_by_role("button", name="Withhold", exact=True).first.click()
        expect(page.locator(".deliveries")).to_contain_text("It will not be sent.")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Withhold", exact=True).first.click()
        page.get_by_role("button", name="Yes, withhold").click()
        expect(page.locator(".deliveries")).to_contain_text("Withheld")
    with served.node.database.transaction() as session:
        held = session.scalars(select(Delivery).where(Delivery.state == DELIVERY_WITHHELD)).one()
        assert held.id == delivery
        held.state, held.reason = DELIVERY_WAITING, "The connection was refused."
        session.get_one(Study, study.id).state = state


def test_what_the_wheel_carries_is_small_and_has_no_source_maps():
    names = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in names) < 4_000_000
    assert not [path for path in names if path.suffix == ".map"]
    assert "cornerstonejs/core" in (FOLDER / "licences.txt").read_text()


def test_an_administrator_sees_an_alarm_and_says_so(served, browser):
    with served.page(browser, user="reader-1") as page:
        page.goto(f"{served.address}/dashboard")
        expect(page.locator(".alarms li")).to_have_count(1)
        expect(page.locator(".alarms button")).to_have_count(0)
    with served.page(browser, user="admin-1") as page:
        page.goto(f"{served.address}/dashboard")
        page.locator(".alarms button").click()
        expect(page.locator(".alarms")).to_have_count(0)
        expect(page.locator("header .chip-alarm")).to_have_count(0)
    with served.node.database.transaction() as session:
        session.merge(Cursor(name="drift", value=DRIFT, at=time.time()))
