"""Whether the stream of images is still like the one that the model was made for: an alarm, not silence.

At each look the newest images of a bundle are judged against two references: the bundle's own validation images (only
of scores and of distances, which is what a bundle keeps of them), and the first images that this node read with it.
"""

import logging
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy.orm import Session

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.tables import Cursor
from freezeframe.pacs.watching.control_limits import LOOKS_A_WINDOW
from freezeframe.pacs.watching.drift_images import Count, count_images, read_window
from freezeframe.pacs.watching.drift_reference import validation_of
from freezeframe.pacs.watching.drift_signals import Signal, judge

CURSOR = "drift"
_LOGGER = logging.getLogger(__name__)


def look(database: Database, configuration: NodeConfiguration, now: float) -> tuple[Signal, ...]:
    """Judge the newest images of each bundle, where a quarter of a window of new ones has come since the last look.

    Call it now and then, once a minute say, from one thread; most calls only count. What was found is kept in the
    cursor ``drift``, as ``signals`` and ``alarms``, and a new alarm is logged.

    Parameters
    ----------
    database : Database
        Of the node.
    configuration : NodeConfiguration
        Its section `drift` says how many images are looked at and how many false alarms a year are borne.
    now : float
        Seconds since 1970.

    Returns
    -------
    tuple of Signal
        Of all bundles, as of their last looks.
    """
    settings, bundles = configuration.drift, configuration.bundles
    with database.reading() as session:
        before = _stored(session)
    known = {signal.key: signal for signal in before}
    signals: list[Signal] = []
    counts: dict[str, Count] = {}
    for used in bundles:
        old = [signal for signal in before if signal.bundle == used.name]
        with database.reading() as session:
            count = count_images(session, used.name, _count_before(session, used.name))
            if count is None:
                continue
            counts[used.name] = count
            same = _count_before(session, used.name) or {}
            anew = not old or same.get("sha256") != count.sha256
            if not anew and count.unseen < max(1, settings.window // LOOKS_A_WINDOW):
                signals += old
                continue
            images = read_window(session, used.name, count, settings)
        counts[used.name] = count.looked()
        made = judge(used.name, count, images, validation_of(used), settings, len(bundles), now)
        signals += [_with_history(signal, known.get(signal.key), now) for signal in made]
    signals = _store(database, signals, counts, now)
    for signal in signals:
        _tell(signal, known.get(signal.key))
    return tuple(signals)


def acknowledge(session: Session, key: str, now: float) -> bool:
    """Note that somebody has seen an alarm: it is no longer shown, until it is over and comes again.

    Parameters
    ----------
    session : Session
        Of a transaction.
    key : str
        Of the alarm.
    now : float
        Seconds since 1970.

    Returns
    -------
    bool
        Whether there is such an alarm.
    """
    signals = _stored(session)
    if not any(signal.alarm and signal.key == key for signal in signals):
        return False
    seen = [replace(signal, acknowledged=True) if signal.key == key else signal for signal in signals]
    session.merge(Cursor(name=CURSOR, value=_value(session, seen, {}), at=now))
    return True


def _with_history(signal: Signal, before: Signal | None, now: float) -> Signal:
    if not signal.alarm:
        return signal
    if before is None or not before.alarm:
        return replace(signal, since=now)
    return replace(signal, since=before.since, acknowledged=before.acknowledged)


def _store(database: Database, signals: list[Signal], counts: dict[str, Count], now: float) -> list[Signal]:
    with database.transaction() as session:
        # What was acknowledged while the look went on stays acknowledged.
        seen = {signal.key for signal in _stored(session) if signal.alarm and signal.acknowledged}
        kept = [
            replace(signal, acknowledged=True) if signal.alarm and signal.key in seen else signal
            for signal in signals
        ]
        value = _value(session, kept, counts)
        cursor = session.get(Cursor, CURSOR)
        if cursor is None or cursor.value != value:
            session.merge(Cursor(name=CURSOR, value=value, at=now))
    return kept


def _value(session: Session, signals: list[Signal], counts: dict[str, Count]) -> dict[str, Any]:
    cursor = session.get(Cursor, CURSOR)
    before = cursor.value.get("counts", {}) if cursor is not None else {}
    return {
        "signals": [asdict(signal) for signal in signals],
        "alarms": [
            {"key": signal.key, "since": signal.since, "detail": signal.sentence(), "signal": asdict(signal)}
            for signal in signals
            if signal.alarm and not signal.acknowledged
        ],
        "counts": {**before, **{name: asdict(count) for name, count in counts.items()}},
    }


def _stored(session: Session) -> list[Signal]:
    cursor = session.get(Cursor, CURSOR)
    return [Signal(**plain) for plain in cursor.value.get("signals", [])] if cursor is not None else []


def _count_before(session: Session, bundle: str) -> dict[str, Any] | None:
    cursor = session.get(Cursor, CURSOR)
    return cursor.value.get("counts", {}).get(bundle) if cursor is not None else None


def _tell(signal: Signal, before: Signal | None) -> None:
    was = before is not None and before.alarm
    fields = {"bundle": signal.bundle, "signal": signal.name, "reason": signal.sentence()}
    if signal.alarm and not was:
        _LOGGER.warning("Drift: the newest images are unlike those before.", extra=fields)
    elif was and not signal.alarm:
        _LOGGER.info("Drift: the newest images are as usual again.", extra=fields)
