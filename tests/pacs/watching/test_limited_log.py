import logging

import pytest

from freezeframe.pacs.watching.limited_log import BEYOND, MOST_LINES, SECONDS, LimitedLog

LOGGER = logging.getLogger("freezeframe.test_limited_log")


@pytest.fixture
def lines(caplog):
    """What was written: message, caller, reason, how often it was repeated."""
    caplog.set_level(logging.INFO, LOGGER.name)

    def written() -> list[tuple]:
        return [
            (record.getMessage(), *(record.__dict__.get(name) for name in ("caller", "reason", "repeated")))
            for record in caplog.records
        ]

    return written


@pytest.fixture
def limited():
    return LimitedLog(LOGGER)


@pytest.fixture
def log(limited):
    def write(now: float, caller="10.0.0.1", reason="no", message="refused", group="strangers") -> None:
        limited.write(logging.WARNING, message, {"caller": caller, "reason": reason}, group, now)

    return write


def test_a_line_that_is_repeated_is_written_once_a_minute_with_its_number(log, limited, lines):
    for tenth in range(1500):
        log(1000.0 + tenth / 10)
    assert lines() == [
        ("refused", "10.0.0.1", "no", None), ("refused", "10.0.0.1", "no", 599), ("refused", "10.0.0.1", "no", 600),
    ]  # fmt: skip
    limited.flush(1150.0)
    assert sum((line[3] or 1) for line in lines()) == 1500


def test_another_address_reason_or_message_is_another_line(log, lines):
    log(0.0)
    log(0.0, caller="10.0.0.2")
    log(0.0, reason="not now")
    log(0.0, message="closed")
    assert len(lines()) == 4


def test_what_comes_again_after_a_minute_is_written_at_once(log, lines):
    log(0.0)
    log(SECONDS)
    assert [line[3] for line in lines()] == [None, None]


def test_what_was_left_out_is_told_with_the_next_line_of_another_caller(log, lines):
    log(0.0)
    log(1.0)
    log(1 + SECONDS, caller="10.0.0.2")
    assert lines()[1:] == [("refused", "10.0.0.1", "no", 1), ("refused", "10.0.0.2", "no", None)]


def test_many_different_lines_are_bounded_and_take_no_place_from_another_group(log, limited, lines):
    for number in range(5000):
        log(number / 100, reason=f"reason {number}")
    log(50.0, group="peers", reason="of a peer")
    assert len(lines()) == MOST_LINES + 2
    assert lines()[-1][2] == "of a peer"
    limited.flush(50.0)
    assert (BEYOND, None, None, 5000 - MOST_LINES - 1) in lines()


def test_nothing_is_told_twice(log, limited, lines):
    log(0.0)
    log(1.0)
    for _ in range(3):
        limited.flush(2.0)
    assert [line[3] for line in lines()] == [None, 1]
