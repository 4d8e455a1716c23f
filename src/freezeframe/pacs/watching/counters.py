"""Counters of this process, for whoever counts: what happens on the wire leaves no row in the database.

Labels are names out of the configuration or constants, never what a peer sent, so that their number is bounded.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY = CollectorRegistry()

ASSOCIATIONS = Counter(
    "freezeframe_associations",
    "DICOM associations that were accepted, by peer.",
    ["peer"],
    registry=REGISTRY,
)
REFUSALS = Counter(
    "freezeframe_refusals",
    "What was refused, by where (dicom, stow, folder, web) and by a constant reason.",
    ["where", "reason"],
    registry=REGISTRY,
)
STORE_SECONDS = Histogram(
    "freezeframe_store_seconds",
    "From the last byte of an image to its acknowledgement.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    registry=REGISTRY,
)
