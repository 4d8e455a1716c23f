"""Delivery as a process of its own, which a test kills."""

import threading

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import open_database
from freezeframe.pacs.delivery import claims, outbox


def deliver_for_ever(configuration: NodeConfiguration, lease_seconds: float) -> None:
    claims.LEASE_SECONDS = lease_seconds  # so that a test need not wait for a real one
    outbox.run(open_database(configuration), configuration, threading.Event(), 0.02)
