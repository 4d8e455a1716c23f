"""Which images of a node have which label, as its readers said."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from freezeframe.pacs.reading.findings import StudyReading
from freezeframe.pacs.tables import Feedback, Image, Result, Study

AGREE, DISAGREE, CORRECT = "agree", "disagree", "correct"


@dataclass(frozen=True)
class Reviewed:
    """An image whose study a reader has looked at.

    Attributes
    ----------
    study_uid, sop_instance_uid : str
        The original ones.
    path : Path or None
        Where it is below the node's folder; None where retention has deleted it.
    label : str
        '' where readers gave none.
    feedback : str
        agree, correct or disagree.
    reason : str
        Why it has no label; '' where it has one.
    """

    study_uid: str
    sop_instance_uid: str
    path: Path | None
    label: str
    feedback: str
    reason: str = ""


def reviewed(session: Session) -> list[Reviewed]:
    """Return every image of a result that readers have judged and that no later one replaces.

    A correction gives its label to all images that were read; agreement gives it to those whose own decision is the
    study's, since the reader said nothing of the others.
    """
    newest: dict[int, dict[str, Feedback]] = defaultdict(dict)
    query = select(Feedback).join(Result, Feedback.result_id == Result.id).where(Result.current)
    for feedback in session.scalars(query.order_by(Feedback.at, Feedback.id)):
        newest[feedback.result_id][feedback.user] = feedback
    found: dict[str, Reviewed] = {}
    for result_id, by_user in sorted(newest.items()):
        result = session.get_one(Result, result_id)
        study = session.get_one(Study, result.study_id)
        rows = session.scalars(select(Image).where(Image.study_id == study.id))
        paths = {image.sop_instance_uid: None if image.deleted_at else Path(image.path) for image in rows}
        reading = StudyReading.from_dict(result.reading)
        for uid, label, verdict, reason in _labels(reading, list(by_user.values())):
            one = Reviewed(study.study_uid, uid, paths.get(uid), label, verdict, reason)
            other = found.get(uid)
            if other is not None and other.label and one.label and other.label != one.label:
                one = Reviewed(study.study_uid, uid, paths.get(uid), "", DISAGREE, "readers disagree")
            if other is None or one.label or one.reason == "readers disagree":
                found[uid] = one
    return list(found.values())


def _labels(reading: StudyReading, given: list[Feedback]) -> Iterator[tuple[str, str, str, str]]:
    positive = reading.outcome == "positive"
    for uid in dict.fromkeys(image.sop_instance_uid for image in reading.images):
        frames = [image for image in reading.images if image.sop_instance_uid == uid]
        labels: set[str] = set()
        verdicts: set[str] = set()
        unsaid = False
        for feedback in given:
            verdicts.add(feedback.verdict)
            if feedback.verdict == AGREE:
                agreed = [image.decision for image in frames if image.positive == positive]
                labels.update(agreed[:1])
                unsaid |= not agreed
            elif feedback.label:
                labels.add(feedback.label)
        contradicted = DISAGREE in verdicts and AGREE in verdicts
        verdict = next(word for word in (CORRECT, DISAGREE, AGREE) if word in verdicts)
        if len(labels) == 1 and not contradicted:
            yield uid, labels.pop(), verdict, ""
        elif labels:
            yield uid, "", verdict, "readers disagree"
        elif unsaid:
            yield uid, "", verdict, "the study's finding is not in this image"
        else:
            yield uid, "", verdict, "the reader disagreed without a label"
