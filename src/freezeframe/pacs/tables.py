r"""The state of a node: every table of its database. Times are seconds since 1970 (UTC); UIDs are of validated text.

A study goes through these states:

    receiving -> waiting -> reading -> delivering -> done
        |           |          \-> quarantined (re-runnable)
        |           \-> (a late image) receiving, with the next version
        \-> ignored (no rule wants it)

Each completion of a study makes a new version of it, each version one job for each bundle that a rule names, each job
at most one result, each result its objects, each object one delivery for each destination that takes it.
"""

from typing import Any

from sqlalchemy import DDL, JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 2
UID = String(64)

RECEIVING, WAITING, READING, DELIVERING = "receiving", "waiting", "reading", "delivering"
DONE, IGNORED, QUARANTINED = "done", "ignored", "quarantined"
STUDY_STATES = (RECEIVING, WAITING, READING, DELIVERING, DONE, IGNORED, QUARANTINED)

JOB_WAITING, JOB_CLAIMED, JOB_DONE, JOB_QUARANTINED, JOB_OVERTAKEN = (
    "waiting", "claimed", "done", "quarantined", "overtaken",
)  # fmt: skip
"""A job is overtaken when a later version of its study has come."""

DELIVERY_WAITING, DELIVERY_SENT, DELIVERY_DONE, DELIVERY_WITHHELD, DELIVERY_OVERTAKEN = (
    "waiting", "sent", "done", "withheld", "overtaken",
)  # fmt: skip
"""`sent` waits for storage commitment; `withheld` is what shadow mode or an administrator keeps back."""

OUTCOMES = ("positive", "negative", "refused")


class Base(DeclarativeBase):
    """Of all tables."""

    type_annotation_map = {dict[str, Any]: JSON}  # noqa: RUF012


class Setting(Base):
    """What the whole database is said to be: its schema version and the like."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Study(Base):
    """One study, as its images describe it."""

    __tablename__ = "studies"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, unique=True)
    patient_id: Mapped[str] = mapped_column(String(64), default="")
    patient_name: Mapped[str] = mapped_column(String(324), default="")
    patient_sex: Mapped[str] = mapped_column(String(16), default="")
    patient_birth_date: Mapped[str] = mapped_column(String(10), default="")
    accession_number: Mapped[str] = mapped_column(String(64), default="")
    study_date: Mapped[str] = mapped_column(String(8), default="")
    study_time: Mapped[str] = mapped_column(String(16), default="")
    description: Mapped[str] = mapped_column(String(64), default="")
    modalities: Mapped[str] = mapped_column(
        String(64), default="", doc="of its images, divided by a backslash"
    )
    source: Mapped[str] = mapped_column(String(32), doc="peer or source that its last image came from")
    state: Mapped[str] = mapped_column(String(16), index=True)
    version: Mapped[int] = mapped_column(default=0, doc="completions so far; 0 while its first images come")
    images: Mapped[int] = mapped_column(default=0)
    first_at: Mapped[float] = mapped_column(doc="first image of the version that is being received")
    last_at: Mapped[float] = mapped_column()
    deadline: Mapped[float | None] = mapped_column(
        index=True, doc="when it is complete; null where nothing is open"
    )
    reason: Mapped[str] = mapped_column(
        Text, default="", doc="why it is ignored or quarantined; no patient data"
    )


class Image(Base):
    """One SOP instance that was acknowledged; its bytes are in the file, or were deleted by retention."""

    __tablename__ = "images"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    series_uid: Mapped[str] = mapped_column(UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    path: Mapped[str] = mapped_column(String(300), doc="below the node's folder, divided by /")
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64), doc="of the data set as it was sent, without file meta")
    source: Mapped[str] = mapped_column(String(32))
    calling_ae: Mapped[str] = mapped_column(String(16), default="")
    received_at: Mapped[float] = mapped_column()
    deleted_at: Mapped[float | None] = mapped_column()


class Refused(Base):
    """A file that was put aside: other bytes under a known UID, or a file of a watched folder that is no image."""

    __tablename__ = "refused_files"
    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(UID, default="")
    path: Mapped[str] = mapped_column(String(300), doc="below the node's folder; '' once it was deleted")
    sha256: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(32))
    calling_ae: Mapped[str] = mapped_column(String(16), default="")
    received_at: Mapped[float] = mapped_column()
    reason: Mapped[str] = mapped_column(Text)


class Job(Base):
    """One reading that is due: a version of a study, by one bundle."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("study_id", "version", "bundle"),
        Index("jobs_in_order", "state", "priority", "not_before"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    version: Mapped[int] = mapped_column()
    bundle: Mapped[str] = mapped_column(String(32), doc="name in the configuration")
    rule: Mapped[str] = mapped_column(String(32))
    image_uids: Mapped[list[str]] = mapped_column(JSON, doc="SOP instances that the rule chose, in order")
    priority: Mapped[int] = mapped_column()
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[float] = mapped_column()
    claimed_by: Mapped[str] = mapped_column(String(128), default="")
    claimed_until: Mapped[float | None] = mapped_column()
    created_at: Mapped[float] = mapped_column()
    finished_at: Mapped[float | None] = mapped_column()
    reason: Mapped[str] = mapped_column(Text, default="", doc="of the last failure; no patient data")


class Result(Base):
    """What a bundle said of a version of a study."""

    __tablename__ = "results"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), unique=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    version: Mapped[int] = mapped_column()
    bundle: Mapped[str] = mapped_column(String(32))
    bundle_name: Mapped[str] = mapped_column(String(64), doc="that the bundle gives itself")
    bundle_sha256: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16), doc="positive, negative or refused")
    probability: Mapped[float | None] = mapped_column(doc="largest of the positive class over the images")
    current: Mapped[bool] = mapped_column(doc="whether no later version of the same bundle is there")
    reading: Mapped[dict[str, Any]] = mapped_column(JSON, doc="StudyReading.to_dict()")
    created_at: Mapped[float] = mapped_column(index=True)
    seconds: Mapped[float] = mapped_column(doc="that the reading took")


class ResultObject(Base):
    """One object made of a result: a DICOM file, an HL7 message or a FHIR bundle."""

    __tablename__ = "result_objects"
    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    kind: Mapped[str] = mapped_column(String(8), doc="sr, sc, gsps, hl7 or fhir")
    sop_class_uid: Mapped[str] = mapped_column(UID, default="")
    sop_instance_uid: Mapped[str] = mapped_column(UID, default="", index=True, doc="'' for hl7 and fhir")
    path: Mapped[str] = mapped_column(String(300), doc="below the node's folder")
    sha256: Mapped[str] = mapped_column(String(64), doc="of the file")


class Delivery(Base):
    """The outbox: one object that one destination is to have."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("object_id", "destination"),
        # By state first: nearly all rows are done, and an index on the destination alone would find those, too.
        Index("deliveries_in_order", "state", "destination", "priority", "not_before"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("result_objects.id"), index=True)
    destination: Mapped[str] = mapped_column(String(32))
    priority: Mapped[int] = mapped_column(doc="0 is sent first: findings before the rest")
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[float] = mapped_column()
    held_until: Mapped[float | None] = mapped_column(
        index=True, doc="lease of who sends it; null where nobody does"
    )
    transaction_uid: Mapped[str] = mapped_column(
        UID, default="", doc="of the storage commitment that was asked for"
    )
    sent_at: Mapped[float | None] = mapped_column()
    done_at: Mapped[float | None] = mapped_column()
    reason: Mapped[str] = mapped_column(Text, default="", doc="of the last failure; no patient data")


class User(Base):
    """Who may log in."""

    __tablename__ = "users"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), doc="viewer, reader, admin, or sender (STOW-RS only)")
    password_hash: Mapped[str] = mapped_column(Text, doc="argon2id")
    created_at: Mapped[float] = mapped_column()
    disabled: Mapped[bool] = mapped_column(default=False)


class Login(Base):
    """A session of the page; only the hash of its secret is kept."""

    __tablename__ = "logins"
    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(String(64))
    csrf_token: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column()
    expires_at: Mapped[float] = mapped_column()


class LoginFailure(Base):
    """A login that failed, which slows the next one of the same name or address."""

    __tablename__ = "login_failures"
    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(String(64), index=True)
    address: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[float] = mapped_column(index=True)


class LoginPlace(Base):
    """An address that a user logged in from: failures elsewhere do not slow them there."""

    __tablename__ = "login_places"
    user: Mapped[str] = mapped_column(String(64), primary_key=True)
    address: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[float] = mapped_column(doc="last time")


class Feedback(Base):
    """What a reader said of a result; the newest of a reader counts, the older stay."""

    __tablename__ = "feedback"
    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    user: Mapped[str] = mapped_column(String(64))
    verdict: Mapped[str] = mapped_column(String(16), doc="agree, disagree or correct")
    label: Mapped[str] = mapped_column(
        String(200), default="", doc="the right class, where the reader corrected"
    )
    remark: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[float] = mapped_column(index=True)


class AuditEntry(Base):
    """One line of the audit trail; `hash` covers the line and the hash before it. Never changed, never deleted."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column()
    who: Mapped[str] = mapped_column(String(128))
    what: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(300), default="", doc="such as a study UID")
    outcome: Mapped[str] = mapped_column(String(16), doc="success or failure")
    detail: Mapped[str] = mapped_column(Text, default="")
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


_REFUSE_CHANGES_OF_THE_AUDIT_TRAIL = {
    "sqlite": (
        """CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is never changed'); END""",
        """CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is never changed'); END""",
    ),
    "postgresql": (
        """CREATE OR REPLACE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit trail is never changed'; END $$""",
        """CREATE TRIGGER audit_refuses_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()""",
    ),
}
for _dialect, _statements in _REFUSE_CHANGES_OF_THE_AUDIT_TRAIL.items():
    for _statement in _statements:
        event.listen(AuditEntry.__table__, "after_create", DDL(_statement).execute_if(dialect=_dialect))


class Cursor(Base):
    """How far something that goes on has come: a pull, a drift alarm."""

    __tablename__ = "cursors"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(JSON)
    at: Mapped[float] = mapped_column()


class Worker(Base):
    """A reading process, and when it last said that it lives."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    started_at: Mapped[float] = mapped_column()
    seen_at: Mapped[float] = mapped_column()
    job_id: Mapped[int | None] = mapped_column()
