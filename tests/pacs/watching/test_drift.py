import logging
from dataclasses import replace

import numpy as np
import pytest
from node_rows import Rows, image_reading, random_image
from sqlalchemy import select

from freezeframe.pacs.configuration import Drift
from freezeframe.pacs.tables import Cursor, Result
from freezeframe.pacs.watching import drift
from freezeframe.pacs.watching.drift_images import Count, Seen, Window
from freezeframe.pacs.watching.drift_reference import Validation, validation_of
from freezeframe.pacs.watching.drift_signals import judge

DAY, START = 86400.0, 1.8e9


@pytest.fixture
def rows(tmp_path):
    made = Rows.of(tmp_path, drift={"window": 40, "baseline": 60})
    yield made
    made.database.close()


@pytest.fixture
def generator():
    return np.random.default_rng(7)


def add(rows: Rows, images: list, now: float, sha256: str = "ab" * 32) -> None:
    with rows.database.transaction() as session:
        for index, image in enumerate(images):
            rows.result(session, now + index * 600, image, sha256)


def stream(generator, count: int, **more) -> list:
    return [random_image(generator, **more) for _ in range(count)]


def stored(rows: Rows) -> dict:
    with rows.database.reading() as session:
        return session.get(Cursor, "drift").value


def test_too_few_images_are_said_and_are_no_alarm(rows, generator):
    add(rows, stream(generator, 70), START)
    signals = drift.look(rows.database, rows.configuration, START + DAY)
    assert {signal.state for signal in signals if "own" in signal.name} == {"collecting"}
    assert signals[0].sentence() == "70 of the 100 images that a judgement takes."
    assert stored(rows)["alarms"] == []


def test_a_stream_that_does_not_change_gives_no_alarm(rows, generator):
    add(rows, stream(generator, 160), START)
    signals = drift.look(rows.database, rows.configuration, START + 2 * DAY)
    assert {signal.state for signal in signals} == {"within"}
    assert {signal.name for signal in signals} == {
        "input mean (own)", "input standard deviation (own)", "input border (own)", "disagreement (own)",
        "distance (own)", "positive rate (own)", "warning rate (own)", "scores (own)",
    }  # fmt: skip


def test_brighter_images_give_an_alarm_that_is_logged_and_kept(rows, generator, caplog):
    add(rows, [*stream(generator, 60), *stream(generator, 40, brighter=0.15)], START)
    with caplog.at_level(logging.WARNING):
        drift.look(rows.database, rows.configuration, START + DAY)
    (alarm,) = stored(rows)["alarms"]
    assert (alarm["key"], alarm["since"]) == ("default: input mean (own)", START + DAY)
    assert caplog.records[-1].signal == "input mean (own)"


def test_an_alarm_is_over_when_the_stream_is_as_before(rows, generator):
    add(rows, [*stream(generator, 60), *stream(generator, 40, brighter=0.15)], START)
    drift.look(rows.database, rows.configuration, START + DAY)
    add(rows, stream(generator, 40), START + DAY)
    drift.look(rows.database, rows.configuration, START + 2 * DAY)
    assert stored(rows)["alarms"] == []


def test_an_alarm_that_was_acknowledged_is_shown_again_only_once_it_was_over(rows, generator):
    def shown(count: int, day: int, **more) -> bool:
        add(rows, stream(generator, count, **more), START + day * DAY)
        drift.look(rows.database, rows.configuration, START + (day + 1) * DAY)
        return bool(stored(rows)["alarms"])

    assert not shown(60, 0)
    assert shown(40, 1, brighter=0.2)
    with rows.database.transaction() as session:
        assert drift.acknowledge(session, "default: input mean (own)", START + 2 * DAY)
        assert not drift.acknowledge(session, "default: another", START + 2 * DAY)
    assert not stored(rows)["alarms"]
    assert not shown(20, 2, brighter=0.2)
    assert not shown(40, 3)
    assert shown(40, 4, brighter=0.2)


def test_a_look_is_made_only_after_a_quarter_of_a_window(rows, generator):
    add(rows, stream(generator, 100), START)
    first = drift.look(rows.database, rows.configuration, START + DAY)
    add(rows, stream(generator, 9, brighter=0.4), START + DAY)
    assert drift.look(rows.database, rows.configuration, START + 2 * DAY) == first
    add(rows, stream(generator, 1, brighter=0.4), START + 2 * DAY)
    assert drift.look(rows.database, rows.configuration, START + 3 * DAY) != first


def test_another_bundle_under_the_same_name_begins_anew(rows, generator):
    add(rows, stream(generator, 100), START)
    drift.look(rows.database, rows.configuration, START + DAY)
    add(rows, stream(generator, 5, brighter=0.4), START + DAY, sha256="cd" * 32)
    signals = drift.look(rows.database, rows.configuration, START + 2 * DAY)
    assert {signal.images for signal in signals if "own" in signal.name} == {5}


def test_an_image_that_was_read_twice_counts_once(rows, generator):
    add(rows, stream(generator, 30), START)
    with rows.database.transaction() as session:
        for result in session.scalars(select(Result)).all():
            twin = rows.result(session, START + DAY, image_reading())
            twin.reading = {**twin.reading, "images": result.reading["images"]}
    signals = drift.look(rows.database, rows.configuration, START + 2 * DAY)
    assert {signal.images for signal in signals if "own" in signal.name} == {30}


def test_a_bundle_of_one_member_without_a_reference_has_fewer_signals(rows):
    add(rows, [replace(image_reading(spread=None, distance=None)) for _ in range(100)], START)
    names = {signal.name for signal in drift.look(rows.database, rows.configuration, START + DAY)}
    assert not names & {"disagreement (own)", "distance (own)"}


def test_no_reading_is_no_signal(rows):
    assert drift.look(rows.database, rows.configuration, START) == ()


def test_a_bundle_that_is_not_there_leaves_the_own_comparisons(rows, caplog):
    found = validation_of(rows.configuration.bundles[0])
    assert (found.scores, found.positives, found.unlike) == (None, None, None)
    assert "can't be read" in caplog.text


def test_scores_are_compared_with_the_validation_images_from_the_first_window_on(rows, generator):
    validation = Validation(generator.beta(1.5, 8, 200), (10, 200), (2, 200))
    seen = [Seen((str(i), 0), {}, 0.9, True, False, None, 1.2) for i in range(40)]
    count = Count("ab", START, 40, 40, 40)
    signals = judge("default", count, Window(seen, seen), validation, Drift(window=40), 1, START + DAY)
    states = {signal.name: signal.state for signal in signals if "training" in signal.name}
    assert states == dict.fromkeys(
        ("scores (training)", "positive rate (training)", "unlike images (training)"), "outside"
    )


def test_a_year_of_an_unchanged_stream_brings_about_as_many_alarms_as_were_asked_for():
    # Each year brings 25 images a day; they are asked for 12 false alarms a year.
    generator = np.random.default_rng(11)
    settings = Drift(window=200, baseline=500, false_alarms_a_year=12)
    step, episodes = settings.window // 4, 0
    years = 4
    for _ in range(years):
        images = [seen(index, random_image(generator)) for index in range(9000)]
        before: set[str] = set()
        for end in range(settings.baseline + settings.window, len(images) + 1, step):
            window = Window(images[:500], images[end - settings.window : end])
            count = Count("ab", 0.0, end, step, end)
            judged = judge("default", count, window, Validation(), settings, 1, end * DAY / 25)
            alarms = {signal.name for signal in judged if signal.alarm}
            episodes += len(alarms - before)
            before = alarms
    assert episodes <= 2 * settings.false_alarms_a_year * years


def seen(index: int, image) -> Seen:
    score, warned = image.probabilities["opacity"], bool(image.warnings)
    return Seen((str(index), 0), image.inputs, score, image.positive, warned, image.spread, image.distance)
