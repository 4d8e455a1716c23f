"""``node.yaml``: all that one node is told, typed; the source of its format and of the documented table of fields."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.pacs.configuration_paths import absolute, with_default
from freezeframe.pacs.configuration_problems import contradictions, described
from freezeframe.pacs.configuration_types import (
    AeTitle,
    Authority,
    DaysBack,
    Expression,
    Fingerprint,
    HomePath,
    Modalities,
    Name,
    Network,
    Objects,
    PasswordFile,
    PeerAddress,
    PeerPort,
    PeerTitle,
    PollSeconds,
    Port,
    Seconds,
    Tag,
    TokenFile,
    User,
    WebAddress,
)

SCHEMA_VERSION = 1
UPLOADED = "web"
"""Source of what came by STOW-RS."""


class Section(BaseModel):
    """Part of the configuration; refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(Section):
    """Certificates of one side (PEM files). TLS 1.2 or newer, as PS3.15's BCP 195 profiles ask."""

    certificate: HomePath = Field(description="of this side, with the chain")
    key: HomePath = Field(description="of the certificate, without a passphrase")
    authority: HomePath | None = Field(
        default=None, description="whose certificates the other side must have; the system's where left out"
    )
    require_client: bool = Field(default=True, description="as a server: only clients with a certificate")


class UsedBundle(Section):
    """A bundle that this node may be asked to read with."""

    name: Name = Field(default="default", description="that rules call it by")
    path: HomePath = Field(description="folder or .ffb file")
    public_key: HomePath | None = Field(
        default=None, description="minisign key; unsigned bundles are refused then"
    )
    operating_point: str | None = Field(default=None, description="the bundle's first where left out")
    engine: Literal["onnxruntime", "openvino"] = Field(default="onnxruntime", description="that runs it")


class DicomServer(Section):
    """What listens for C-STORE and C-ECHO."""

    address: str = Field(default="127.0.0.1", description="of this machine; 0.0.0.0 is all of its networks")
    port: Port = Field(default=11112, description="0 takes a free one")
    maximum_associations: Annotated[int, Field(ge=1, le=200)] = Field(
        default=20, description="at the same time"
    )
    network_timeout: Seconds = Field(default=30, description="of silence in an association")
    tls: Tls | None = Field(default=None, description="then the port speaks TLS only")


class Peer(Section):
    """Who may associate. All that is given must fit: one of the titles, of the networks, of the certificates."""

    name: Name = Field(description="in logs, metrics and `complete_by_source`")
    ae_titles: Annotated[tuple[AeTitle, ...], Field(min_length=1)] = Field(
        description="that it calls from; a PACS may have several"
    )
    networks: tuple[Network, ...] = Field(
        default=("127.0.0.0/8", "::1/128"), description="addresses or CIDR networks"
    )
    certificates: tuple[Fingerprint, ...] = Field(default=(), description="SHA-256 of its client certificate")
    may: tuple[Literal["echo", "store"], ...] = Field(
        default=("echo", "store"), description="C-ECHO and C-STORE"
    )


class WatchedFolder(Section):
    """DICOM files that appear in a folder; what was kept is removed from it."""

    kind: Literal["folder"]
    name: Name
    path: HomePath = Field(description="with its sub-folders")
    seconds: Seconds = Field(default=2, description="between looks; a file is taken when it no longer grows")


class WebPull(Section):
    """Polls a PACS by QIDO-RS and retrieves by WADO-RS."""

    kind: Literal["dicomweb"]
    name: Name
    url: WebAddress
    user: User = None
    password_file: PasswordFile = None
    token_file: TokenFile = None
    authority: Authority = None
    modalities: Modalities = ("CR", "DX")
    seconds: PollSeconds = 60
    days_back: DaysBack = 1


class QueryPull(Section):
    """Polls a PACS by C-FIND (study root) and has it send by C-MOVE to this node."""

    kind: Literal["query"]
    name: Name
    ae_title: PeerTitle
    address: PeerAddress
    port: PeerPort
    tls: Tls | None = Field(default=None, description="this side's certificate; without TLS where left out")
    modalities: Modalities = ("CR", "DX")
    seconds: PollSeconds = 60
    days_back: DaysBack = 1


Source = Annotated[WatchedFolder | WebPull | QueryPull, Field(discriminator="kind")]


class Patience(Section):
    """When a study counts as complete."""

    quiet_seconds: Seconds = Field(default=30, description="after the last image of a study")
    at_most_seconds: Seconds = Field(
        default=300, description="after the first image, even if more are still coming"
    )


class Rule(Section):
    """Which images of a study are read, by what. All conditions must hold; one that is left out holds always."""

    name: Name
    bundle: Name = Field(default="default", description="that reads them")
    priority: Annotated[int, Field(ge=0, le=9)] = Field(default=5, description="0 is read first")
    modality: tuple[str, ...] = Field(default=(), description="such as [CR, DX]")
    body_part: tuple[str, ...] = Field(
        default=(), description="BodyPartExamined; also images without one where '' is listed"
    )
    view: tuple[str, ...] = Field(
        default=(), description="ViewPosition; also images without one where '' is listed"
    )
    station: tuple[str, ...] = Field(default=(), description="StationName")
    age: tuple[float, float] | None = Field(default=None, description="youngest and oldest, in years")
    attributes: dict[Tag, Expression] = Field(
        default={}, description="keyword or 'gggg,eeee' -> regular expression that the whole value must match"
    )


class DicomDestination(Section):
    """Takes results by C-STORE, and says by storage commitment that it keeps them."""

    kind: Literal["dicom"]
    name: Name
    ae_title: PeerTitle
    address: PeerAddress
    port: PeerPort
    tls: Tls | None = Field(default=None, description="this side's certificate; without TLS where left out")
    commitment: bool = Field(default=False, description="done only after storage commitment")
    objects: Objects = ("sr", "sc", "gsps")


class WebDestination(Section):
    """Takes results by STOW-RS."""

    kind: Literal["dicomweb"]
    name: Name
    url: WebAddress
    user: User = None
    password_file: PasswordFile = None
    token_file: TokenFile = None
    authority: Authority = None
    objects: Objects = ("sr", "sc", "gsps")


class Hl7Destination(Section):
    """Takes ORU^R01 over MLLP."""

    kind: Literal["hl7"]
    name: Name
    address: PeerAddress
    port: PeerPort
    tls: Tls | None = Field(default=None, description="this side's certificate; without TLS where left out")
    application: str = Field(default="", description="receiving application, MSH-5")
    facility: str = Field(default="", description="receiving facility, MSH-6")


class FhirDestination(Section):
    """Takes a transaction bundle with a DiagnosticReport and its Observations."""

    kind: Literal["fhir"]
    name: Name
    url: WebAddress
    token_file: TokenFile = None
    authority: Authority = None


Destination = Annotated[
    DicomDestination | WebDestination | Hl7Destination | FhirDestination, Field(discriminator="kind")
]


class Results(Section):
    """What is made of an answer."""

    language: Literal["en", "es"] = Field(default="en", description="of all texts")
    structured_report: bool = Field(default=True, description="one for a study")
    secondary_capture: bool = Field(default=True, description="a picture for each image, at most 4")
    presentation_state: bool = Field(default=False, description="outline and text over the original")
    negative: bool = Field(default=True, description="also where nothing was found")
    refused: bool = Field(default=True, description="also where the study could not be read")
    institution: str = Field(default="", description="InstitutionName of the objects")


class Limits(Section):
    """What one study may cost before its worker is stopped."""

    workers: Annotated[int, Field(ge=0)] = Field(default=1, description="reading processes on this machine")
    memory_gigabytes: Annotated[float, Field(gt=0)] = Field(default=4, description="of a reading process")
    seconds: Seconds = Field(default=120, description="of one reading")
    attempts: Annotated[int, Field(ge=1)] = Field(default=4, description="then the study is put aside")
    first_wait: Seconds = Field(default=5, description="before the second attempt; doubles each time")
    longest_wait: Seconds = Field(default=3600, description="between attempts, of readings and deliveries")
    lease_seconds: Seconds = Field(
        default=30, description="a worker that is silent so long is taken for dead"
    )


class Proxy(Section):
    """Logins come from a reverse proxy that sets these headers."""

    user_header: str = Field(default="X-Forwarded-User", description="holds the name")
    role_header: str = Field(default="X-Forwarded-Role", description="holds viewer, reader or admin")
    networks: Annotated[tuple[Network, ...], Field(min_length=1)] = Field(
        description="where the proxy calls from"
    )


class Web(Section):
    """The page, the API, STOW-RS, metrics and health."""

    address: str = Field(default="127.0.0.1", description="of this machine")
    port: Port = Field(default=8042, description="0 takes a free one")
    tls: Tls | None = Field(default=None, description="then the port speaks HTTPS only")
    https: bool = Field(default=False, description="a reverse proxy in front serves it by HTTPS only")
    session_hours: Annotated[float, Field(gt=0)] = Field(default=12, description="until a login ends")
    proxy: Proxy | None = Field(default=None, description="logs people in, instead of this node")
    stow: bool = Field(
        default=True, description="take images by STOW-RS from users with the role admin or sender"
    )
    metrics_networks: tuple[Network, ...] = Field(
        default=("127.0.0.0/8", "::1/128"), description="who may read /metrics without a login"
    )

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it by HTTPS, from this server itself or from a proxy."""
        return self.https or self.tls is not None


class Retention(Section):
    """How long what is kept; results, feedback and the audit trail stay."""

    image_days: Annotated[float, Field(ge=0)] | None = Field(
        default=30, description="after all deliveries of a study; null keeps images"
    )
    refused_days: Annotated[float, Field(ge=0)] | None = Field(
        default=90, description="of files that were put aside in the folder refused; null keeps them"
    )
    least_free_gigabytes: Annotated[float, Field(ge=0)] = Field(
        default=1, description="below it images are no longer taken"
    )


class Drift(Section):
    """When the stream of studies counts as unlike the training's."""

    window: Annotated[int, Field(ge=20)] = Field(default=200, description="newest images that are looked at")
    false_alarms_a_year: Annotated[float, Field(gt=0)] = Field(
        default=2, description="of all signals and bundles together"
    )
    baseline: Annotated[int, Field(ge=20)] = Field(
        default=500,
        description="first images of this node, which later ones are compared with",
    )


class Audit(Section):
    """Where audit messages go besides the database."""

    syslog: str | None = Field(
        default=None, pattern=r"^(udp|tls)://[^:/]+:\d+$", description="udp:// or tls://host:port"
    )
    authority: Authority = None


class NodeConfiguration(Section):
    """All of ``node.yaml``."""

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="of this format")
    ae_title: AeTitle = Field(default="FREEZEFRAME", description="that peers call this node by")
    folder: HomePath = Field(
        description="images, results, database and logs of this node; only its own user may read it"
    )
    database: str | None = Field(
        default=None,
        description="postgresql+pg8000://... for several machines; SQLite in the folder where left out",
    )
    database_password_file: HomePath | None = Field(
        default=None, description="file that holds the database's password"
    )
    uid_root: str = Field(
        default="2.25",
        pattern=r"^[0-9]+(\.(0|[1-9][0-9]*))*$",
        max_length=30,
        description="of new UIDs; 2.25 makes them from UUIDs and needs no registration",
    )
    shadow: bool = Field(default=False, description="everything runs and is recorded, nothing leaves")
    bundles: Annotated[tuple[UsedBundle, ...], Field(min_length=1)] = Field(description="what may read")
    dicom: DicomServer | None = Field(default=DicomServer(), description="null does not listen")
    peers: tuple[Peer, ...] = Field(default=(), description="who may associate; nobody else")
    sources: tuple[Source, ...] = Field(default=(), description="where images are fetched from")
    complete: Patience = Field(default=Patience(), description="when a study is complete")
    complete_by_source: dict[Name, Patience] = Field(
        default={}, description="the same for one peer or source by its name, or 'web' (STOW-RS)"
    )
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)] = Field(description="what is read, by what")
    results: Results = Field(default=Results(), description="what is made of an answer")
    destinations: tuple[Destination, ...] = Field(default=(), description="who gets the results")
    limits: Limits = Field(default=Limits(), description="what one study may cost")
    web: Web | None = Field(default=Web(), description="page, API, STOW-RS; null serves none of them")
    retention: Retention = Field(default=Retention(), description="how long images are kept")
    drift: Drift = Field(default=Drift(), description="when an alarm is raised")
    audit: Audit = Field(default=Audit(), description="where the audit trail goes besides")

    @model_validator(mode="after")
    def _names_are_known_and_unique(self) -> "NodeConfiguration":
        if problems := contradictions(self, UPLOADED):
            raise ValueError("; ".join(problems))
        return self

    @classmethod
    def parse(cls, content: Any, origin: str) -> "NodeConfiguration":
        """Check plain data.

        Raises
        ------
        UserError
            With each field that is wrong.
        """
        if not isinstance(content, Mapping):
            raise UserError(f"{origin} holds no fields.", "YAML such as docs/node.md shows.")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(
                f"{origin}: {described(error, cls)}.",
                action="See `freezeframe node fields`, or the tables in docs/node.md.",
            ) from error

    @classmethod
    def read(cls, path: Path, bundle: Path | None = None) -> "NodeConfiguration":
        """Read the file; paths in it are relative to its folder.

        Parameters
        ----------
        path : Path
            ``node.yaml``.
        bundle : Path, optional
            Serves as the bundle ``default``, whatever the file says of it.
        """
        content = files.read_yaml(path)
        if bundle is not None and isinstance(content, Mapping):
            content = {**content, "bundles": with_default(content.get("bundles"), bundle)}
        return cls.parse(absolute(content, path.absolute().parent), str(path))

    def patience(self, source: str) -> Patience:
        """Return when a study from a source is complete."""
        return self.complete_by_source.get(source, self.complete)

    def bundle(self, name: str) -> UsedBundle:
        """Return the bundle of a name, which is known to be there."""
        return next(entry for entry in self.bundles if entry.name == name)
