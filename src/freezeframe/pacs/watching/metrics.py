"""Metrics for Prometheus: most are counted in the database at each scrape, and so are true after a restart too."""

import ipaddress
import shutil
import time
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

import freezeframe
from freezeframe.pacs.configuration import UPLOADED, NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.tables import (
    DELIVERY_SENT,
    DELIVERY_WAITING,
    JOB_CLAIMED,
    JOB_DONE,
    JOB_OVERTAKEN,
    JOB_QUARANTINED,
    JOB_WAITING,
    OUTCOMES,
    STUDY_STATES,
    Cursor,
    Delivery,
    Image,
    Job,
    Refused,
    Result,
    Study,
    Worker,
)
from freezeframe.pacs.watching.counters import REGISTRY

SECONDS = (0.5, 1, 2, 5, 10, 20, 60, 120)
"""Upper bounds of the buckets of reading times."""
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
OTHER = "other"
"""Label of whatever the configuration no longer names."""


class NodeCollector:
    """What the database says of a node, as metrics of bounded number.

    Parameters
    ----------
    database : Database
        Of the node.
    configuration : NodeConfiguration
        Whose names are the only labels.
    """

    def __init__(self, database: Database, configuration: NodeConfiguration) -> None:
        self._database = database
        self._configuration = configuration

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, from one look at the database."""
        configuration, now = self._configuration, time.time()
        yield InfoMetricFamily(
            "freezeframe_node", "Which software runs.", value={"version": freezeframe.__version__}
        )
        free = shutil.disk_usage(configuration.folder).free
        yield GaugeMetricFamily("freezeframe_disk_free_bytes", "Free, in the node's folder.", value=free)
        with self._database.reading() as session:
            yield from self._studies(session, now)
            yield from self._results(session)
            yield from self._deliveries(session, now)
            alive = select(func.count()).where(Worker.seen_at >= now - configuration.limits.lease_seconds)
            yield GaugeMetricFamily(
                "freezeframe_workers_alive",
                "Reading processes that were seen within a lease.",
                value=session.scalar(alive) or 0,
            )
            yield from self._drift(session.get(Cursor, "drift"))

    def _studies(self, session: Session, now: float) -> Iterator[Metric]:
        configuration = self._configuration
        counted = session.execute(select(Study.state, func.count()).group_by(Study.state))
        yield _gauges("studies", "Studies by state.", "state", STUDY_STATES, counted)
        sources = [UPLOADED, *(entry.name for entry in (*configuration.peers, *configuration.sources))]
        kept = session.execute(select(Image.source, func.count()).group_by(Image.source))
        yield _counters("images_received", "Images that were kept, by source.", "source", sources, kept)
        aside = session.execute(select(Refused.source, func.count()).group_by(Refused.source))
        yield _counters(
            "files_put_aside", "Other bytes under a known UID, or no image.", "source", sources, aside
        )
        states = (JOB_WAITING, JOB_CLAIMED, JOB_DONE, JOB_QUARANTINED, JOB_OVERTAKEN)
        counted = session.execute(select(Job.state, func.count()).group_by(Job.state))
        yield _gauges("jobs", "Readings by state.", "state", states, counted)
        oldest = session.scalar(select(func.min(Job.created_at)).where(Job.state == JOB_WAITING))
        yield GaugeMetricFamily(
            "freezeframe_oldest_waiting_seconds",
            "How long the oldest reading that is due has waited; 0 where none is.",
            value=0 if oldest is None else max(0.0, now - oldest),
        )

    def _results(self, session: Session) -> Iterator[Metric]:
        names = [entry.name for entry in self._configuration.bundles]
        family = CounterMetricFamily(
            "freezeframe_results", "Results, by bundle and outcome.", labels=["bundle", "outcome"]
        )
        counts = {(bundle, outcome): 0 for bundle in names for outcome in OUTCOMES}
        grouped = select(Result.bundle, Result.outcome, func.count()).group_by(Result.bundle, Result.outcome)
        for bundle, outcome, count in session.execute(grouped):
            key = (bundle if bundle in names else OTHER, outcome if outcome in OUTCOMES else OTHER)
            counts[key] = counts.get(key, 0) + count
        for key, count in counts.items():
            family.add_metric(key, count)
        yield family
        below = [func.sum(case((Result.seconds <= bound, 1), else_=0)) for bound in SECONDS]
        row = session.execute(select(*below, func.count(), func.sum(Result.seconds))).one()
        *cumulated, count, total = tuple(row)
        buckets = [(str(bound), number or 0) for bound, number in zip(SECONDS, cumulated, strict=True)]
        yield HistogramMetricFamily(
            "freezeframe_reading_seconds",
            "That readings took.",
            buckets=[*buckets, ("+Inf", count)],
            sum_value=total or 0.0,
        )

    def _deliveries(self, session: Session, now: float) -> Iterator[Metric]:
        names = [entry.name for entry in self._configuration.destinations]
        open_ones = (Delivery.state.in_([DELIVERY_WAITING, DELIVERY_SENT]),)
        family = GaugeMetricFamily(
            "freezeframe_deliveries_open",
            "Objects that a destination is still to have, or to commit to.",
            labels=["destination", "state"],
        )
        counts = {(name, state): 0 for name in names for state in (DELIVERY_WAITING, DELIVERY_SENT)}
        grouped = select(Delivery.destination, Delivery.state, func.count()).where(*open_ones)
        for name, state, count in session.execute(grouped.group_by(Delivery.destination, Delivery.state)):
            key = (name if name in names else OTHER, state)
            counts[key] = counts.get(key, 0) + count
        for key, count in counts.items():
            family.add_metric(key, count)
        yield family
        most = select(func.max(Delivery.attempts)).where(*open_ones)
        yield GaugeMetricFamily(
            "freezeframe_delivery_attempts_most",
            "Attempts of the open delivery that failed most often.",
            value=session.scalar(most) or 0,
        )

    def _drift(self, cursor: Cursor | None) -> Iterator[Metric]:
        alarm = GaugeMetricFamily(
            "freezeframe_drift_alarm",
            "1 where the newest images are outside the control limits.",
            labels=["bundle", "signal"],
        )
        value = GaugeMetricFamily(
            "freezeframe_drift_value", "Of the newest images.", labels=["bundle", "signal"]
        )
        for signal in (cursor.value if cursor else {}).get("signals", []):
            labels = [signal["bundle"], signal["name"]]
            alarm.add_metric(labels, float(signal["alarm"]))
            if signal["value"] is not None:
                value.add_metric(labels, signal["value"])
        yield alarm
        yield value


def _gauges(
    name: str, text: str, label: str, known: Iterable[str], counted: Iterable[Any]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"freezeframe_{name}", text, labels=[label])
    for value, count in _bounded(known, counted).items():
        family.add_metric([value], count)
    return family


def _counters(
    name: str, text: str, label: str, known: Iterable[str], counted: Iterable[Any]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"freezeframe_{name}", text, labels=[label])
    for value, count in _bounded(known, counted).items():
        family.add_metric([value], count)
    return family


def _bounded(known: Iterable[str], counted: Iterable[Any]) -> dict[str, int]:
    counts = dict.fromkeys(known, 0)
    for value, count in counted:
        key = value if value in counts else OTHER
        counts[key] = counts.get(key, 0) + count
    return counts


def is_allowed(request: Request, configuration: NodeConfiguration) -> bool:
    """Tell whether who asks is in `metrics_networks`; what came through a proxy hides where it is from, and is not.

    A proxy is known by the headers that most add, and by `proxy.networks` if it adds none.
    """
    web = configuration.web
    if web is None or request.client is None:
        return False
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.client.host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if web.proxy is not None and _is_among(address, web.proxy.networks):
        return False
    return _is_among(address, web.metrics_networks)


def _is_among(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Iterable[str]) -> bool:
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)


def router(database: Database, configuration: NodeConfiguration) -> APIRouter:
    """Make ``GET /metrics``.

    Parameters
    ----------
    database : Database
        Of the node.
    configuration : NodeConfiguration
        Its `web.metrics_networks` say who may ask without a login; everybody else gets 403.
    """
    routes = APIRouter()
    registry = CollectorRegistry()
    registry.register(NodeCollector(database, configuration))  # type: ignore[arg-type]

    @routes.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        if not is_allowed(request, configuration):
            raise HTTPException(403, "Metrics are only for the networks of web.metrics_networks.")
        content = generate_latest(registry) + generate_latest(REGISTRY)
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    return routes
