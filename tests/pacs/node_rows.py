"""A node's database with made-up studies, readings and deliveries, for what only looks at rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe.bundle.runtime.sentences import InputWarning
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.reading.findings import ImageReading, Model, StudyReading
from freezeframe.pacs.tables import DONE, JOB_DONE, Image, Job, Result, Study

SHA256 = "ab" * 32
CLASSES = ("normal", "opacity")


def configuration(folder: Path, **more: Any) -> NodeConfiguration:
    """A node in a folder; its bundle needn't be there."""
    plain = {
        "folder": str(folder / "node"),
        "bundles": [{"path": str(folder / "bundle")}],
        "rules": [{"name": "all"}],
    }
    return NodeConfiguration.parse(plain | more, "node.yaml")


@dataclass
class Rows:
    """Fills a database; each study has a number, from 1."""

    database: Database
    configuration: NodeConfiguration
    number: int = 0

    @classmethod
    def of(cls, folder: Path, **more: Any) -> "Rows":
        made = configuration(folder, **more)
        return cls(open_database(made), made)

    def study(self, session: Any, now: float, state: str = DONE, **more: Any) -> Study:
        """Add a study with one image and its job."""
        self.number += 1
        uid = f"1.2.3.{self.number}"
        study = Study(
            **{
                "study_uid": uid, "source": "web", "state": state, "version": 1, "images": 1,
                "first_at": now, "last_at": now, "patient_id": f"P{self.number:04d}",
                "patient_name": f"PHANTOM^{self.number:04d}", "modalities": "DX",
            } | more
        )  # fmt: skip
        session.add(study)
        session.flush()
        session.add(
            Image(
                study_id=study.id, sop_instance_uid=f"{uid}.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
                series_uid=f"{uid}.0", transfer_syntax_uid="1.2.840.10008.1.2.1", path=f"images/{uid}/{uid}.1.dcm",
                size=1, sha256=SHA256, source=study.source, received_at=now,
            )
        )  # fmt: skip
        return study

    def result(
        self, session: Any, now: float, image: ImageReading, sha256: str = SHA256, **more: Any
    ) -> Result:
        """Add a study that was read, with one image."""
        study = self.study(session, now, **more)
        job = Job(
            study_id=study.id, version=1, bundle="default", rule="all", image_uids=[f"{study.study_uid}.1"],
            priority=5, state=JOB_DONE, not_before=now, created_at=now, finished_at=now,
        )  # fmt: skip
        session.add(job)
        session.flush()
        plain = reading(study.study_uid, image, sha256)
        result = Result(
            job_id=job.id, study_id=study.id, version=1, bundle="default", bundle_name="small", bundle_sha256=sha256,
            outcome=plain.outcome, probability=plain.probability, current=True, reading=plain.to_dict(),
            created_at=now, seconds=1.5,
        )  # fmt: skip
        session.add(result)
        session.flush()
        return result


def reading(study_uid: str, image: ImageReading, sha256: str = SHA256) -> StudyReading:
    """What a bundle said of a study of one image."""
    classes = tuple({"label": label, "code": None} for label in CLASSES)
    model = Model("small", sha256, "0.1.0", 2, classes, "opacity", "youden", 0.5, 0.9, 0.8)
    image = ImageReading(
        **{**image.__dict__, "sop_instance_uid": f"{study_uid}.1", "series_uid": f"{study_uid}.0"}
    )
    outcome = "positive" if image.positive else "negative"
    return StudyReading(study_uid, 1, model, (image,), (), outcome, image.probabilities["opacity"])


def image_reading(
    score: float = 0.2, inputs: dict[str, float] | None = None, spread: float | None = 0.1,
    distance: float | None = 0.7, warned: bool = False,
) -> ImageReading:  # fmt: skip
    """What a bundle said of an image."""
    probabilities = {"normal": 1 - score, "opacity": score}
    positive = score >= 0.5
    return ImageReading(
        sop_instance_uid="1", sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1", series_uid="1", frame=0, rows=8, columns=8,
        probabilities=probabilities, calibrated=probabilities, members={"a": probabilities, "b": probabilities},
        decision=CLASSES[positive], positive=positive, spread=spread,
        warnings=(InputWarning("contrast", "0.01"),) if warned else (), distance=distance, heat_map=None, region=None,
        inputs=inputs if inputs is not None else {"mean": 0.5, "standard deviation": 0.2, "border": 0.0},
    )  # fmt: skip


def random_image(
    generator: np.random.Generator, brighter: float = 0.0, prevalence: float = 0.2
) -> ImageReading:
    """An image as a hospital's stream has them."""
    sick = generator.random() < prevalence
    return image_reading(
        float(generator.beta(5, 2) if sick else generator.beta(1.5, 8)),
        {
            "mean": float(np.clip(generator.normal(0.5 + brighter, 0.06), 0, 1)),
            "standard deviation": float(generator.beta(20, 80)),
            "border": float(generator.exponential(0.05)) if generator.random() < 0.3 else 0.0,
        },
        float(generator.beta(1.2, 10)),
        float(generator.gamma(30, 0.6 / 30)),
        bool(generator.random() < 0.03),
    )
