"""All that is due, delivered at once, where a node's threads would go on for ever."""

import threading

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.delivery.outbox import deliver_to, look_after


def deliver_due(database: Database, configuration: NodeConfiguration, now: float) -> int:
    """Send all that is due, to all destinations at the same time; return how many objects were taken."""
    counts: list[int] = []

    def deliver(name: str) -> None:
        counts.append(deliver_to(database, configuration, name, now))

    threads = [
        threading.Thread(target=deliver, args=(destination.name,), name=f"delivery-{destination.name}")
        for destination in configuration.destinations
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    look_after(database, configuration)
    return sum(counts)
