"""How long a job waits after an attempt that failed."""

import hashlib

from freezeframe.pacs.configuration import Limits

MOST_DOUBLINGS = 40
JITTER = 0.25


def waits(attempt: int, job_id: int, limits: Limits) -> float:
    """Return how long a job waits after an attempt, in seconds: doubling, and up to a quarter less or more.

    The share that differs comes from the job, so that jobs that failed together do not come back together.

    Parameters
    ----------
    attempt : int
        That has failed, from 1.
    job_id : int
        Of the job.
    limits : Limits
        `first_wait` and `longest_wait`, which is never exceeded.
    """
    digest = hashlib.sha256(f"{job_id}/{attempt}".encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64  # [0, 1)
    doubled = limits.first_wait * 2.0 ** min(attempt - 1, MOST_DOUBLINGS)
    return min(limits.longest_wait, doubled * (1 - JITTER + 2 * JITTER * share))
