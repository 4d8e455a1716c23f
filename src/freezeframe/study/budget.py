"""The budget of a search: how long it has been running, and how many trainings there will have been."""

import time

from freezeframe import files
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Study

SCHEMA_VERSION = 1
# A search that nobody has touched for longer than this stood still, and that time costs no budget.
STILL_SECONDS = 60.0
TICK_SECONDS = 5.0


def expected(study: Study, folder: StudyFolder) -> int:
    """Say how many trainings a search will have had: those begun, and those that the budget still allows."""
    assert study.search is not None
    begun = len(folder.cells())
    path = folder.path / "trials.json"
    asked, limit = 0, study.search.trials
    ended = 0
    if path.exists():
        content = files.read_json(path)
        asked, limit = len(content["trials"]), content["limit"]
        ended = sum(row["state"] != "running" for row in content["trials"])
    left = None if limit is None else max(0, limit - asked)
    if study.search.minutes is not None:
        # The clock begins with the first trial: processes that take long to start cost no budget.
        spent = tick(folder) if asked else 0.0
        remaining = max(0.0, 60 * study.search.minutes - spent)
        # Of the pace so far; until there is one, and while there is time, at least one more.
        in_time = 0 if remaining == 0 else max(1, round(ended * remaining / spent) if spent else 1)
        left = in_time if left is None else min(left, in_time)
    return begun + (left or 0)


def tick(folder: StudyFolder) -> float:
    """Say how many seconds a search has been running, the gaps in which nobody worked at it left out."""
    path = folder.path / "clock.json"
    with files.exclusive(folder.path / "claims" / "clock.lock"):
        now = time.time()
        clock = files.read_json(path) if path.exists() else {"seconds": 0.0, "seen": now}
        gap = now - clock["seen"]
        seconds = clock["seconds"] + (gap if 0 <= gap <= STILL_SECONDS else 0.0)
        if not path.exists() or not 0 <= gap < TICK_SECONDS:
            files.write_json(path, {"schema_version": SCHEMA_VERSION, "seconds": seconds, "seen": now})
        return seconds
