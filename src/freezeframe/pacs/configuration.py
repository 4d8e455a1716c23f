"""``node.yaml``: all that one node is told, typed; the source of its format and of the documented table of fields."""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from freezeframe import files
from freezeframe.errors import UserError, did_you_mean
from freezeframe.pacs.expressions import is_attribute, is_expression

SCHEMA_VERSION = 1
UPLOADED = "web"
"""Source of what came by STOW-RS."""


def _is_ae_title(title: str) -> str:
    # PS3.5, section 6.2, AE: up to 16 characters of the default repertoire, no backslash, not only spaces.
    if not re.fullmatch(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?", title):
        raise ValueError("is no AE title: 1 to 16 printable ASCII characters, no backslash")
    return title


def _is_network(text: str) -> str:
    ipaddress.ip_network(text, strict=False)
    return text


def _is_fingerprint(text: str) -> str:
    plain = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError("is no SHA-256 fingerprint of a certificate: 64 hexadecimal digits")
    return plain


AeTitle = Annotated[str, AfterValidator(_is_ae_title)]
Network = Annotated[str, AfterValidator(_is_network)]
Fingerprint = Annotated[str, AfterValidator(_is_fingerprint)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
HomePath = Annotated[Path, AfterValidator(Path.expanduser)]
Tag = Annotated[
    str,
    Field(pattern=r"^([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}|[A-Z][A-Za-z0-9]*)$"),
    AfterValidator(is_attribute),
]
Expression = Annotated[str, AfterValidator(is_expression)]


class Section(BaseModel):
    """Part of the configuration; refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(Section):
    """Certificates of one side (PEM files). TLS 1.2 or newer, as PS3.15's BCP 195 profiles ask."""

    certificate: HomePath
    key: HomePath
    authority: HomePath | None = Field(
        default=None, description="whose certificates the other side must have; the system's where left out"
    )
    require_client: bool = Field(default=True, description="as a server: only clients with a certificate")


class UsedBundle(Section):
    """A bundle that this node may be asked to read with."""

    name: Name = "default"
    path: HomePath
    public_key: HomePath | None = Field(
        default=None, description="minisign key; unsigned bundles are refused then"
    )
    operating_point: str | None = Field(default=None, description="the bundle's first where left out")
    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"


class DicomServer(Section):
    """What listens for C-STORE and C-ECHO."""

    address: str = "127.0.0.1"
    port: Port = Field(default=11112, description="0 takes a free one")
    maximum_associations: Annotated[int, Field(ge=1, le=200)] = 20
    network_timeout: Seconds = Field(default=30, description="of silence in an association")
    tls: Tls | None = None


class Peer(Section):
    """Who may associate. All that is given must fit: one of the titles, of the networks, of the certificates."""

    name: Name
    ae_titles: Annotated[tuple[AeTitle, ...], Field(min_length=1)] = Field(
        description="that it calls from; a PACS may have several"
    )
    networks: tuple[Network, ...] = Field(
        default=("127.0.0.0/8", "::1/128"), description="addresses or CIDR networks"
    )
    certificates: tuple[Fingerprint, ...] = Field(default=(), description="SHA-256 of its client certificate")
    may: tuple[Literal["echo", "store"], ...] = ("echo", "store")


class WatchedFolder(Section):
    """DICOM files that appear in a folder; what was kept is removed from it."""

    kind: Literal["folder"]
    name: Name
    path: HomePath
    seconds: Seconds = Field(default=2, description="between looks; a file is taken when it no longer grows")


class WebPull(Section):
    """Polls a PACS by QIDO-RS and retrieves by WADO-RS."""

    kind: Literal["dicomweb"]
    name: Name
    url: str = Field(pattern=r"^https?://")
    user: str | None = None
    password_file: HomePath | None = None
    token_file: HomePath | None = None
    authority: HomePath | None = None
    modalities: tuple[str, ...] = ("CR", "DX")
    seconds: Seconds = 60
    days_back: Annotated[int, Field(ge=0)] = 1


class QueryPull(Section):
    """Polls a PACS by C-FIND (study root) and has it send by C-MOVE to this node."""

    kind: Literal["query"]
    name: Name
    ae_title: AeTitle
    address: str
    port: Port
    tls: Tls | None = None
    modalities: tuple[str, ...] = ("CR", "DX")
    seconds: Seconds = 60
    days_back: Annotated[int, Field(ge=0)] = 1


Source = Annotated[WatchedFolder | WebPull | QueryPull, Field(discriminator="kind")]


class Patience(Section):
    """When a study counts as complete."""

    quiet_seconds: Seconds = Field(default=30, description="after its last image")
    at_most_seconds: Seconds = Field(default=300, description="after its first image, images or not")


class Rule(Section):
    """Which images of a study are read, by what. All conditions must hold; one that is left out holds always."""

    name: Name
    bundle: Name = "default"
    priority: Annotated[int, Field(ge=0, le=9)] = Field(default=5, description="0 is read first")
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = Field(
        default=(), description="BodyPartExamined; also images without one where '' is listed"
    )
    view: tuple[str, ...] = Field(
        default=(), description="ViewPosition; also images without one where '' is listed"
    )
    station: tuple[str, ...] = ()
    age: tuple[float, float] | None = Field(default=None, description="youngest and oldest, in years")
    attributes: dict[Tag, Expression] = Field(
        default={}, description="keyword or 'gggg,eeee' -> regular expression that the whole value must match"
    )


class DicomDestination(Section):
    """Takes results by C-STORE, and says by storage commitment that it keeps them."""

    kind: Literal["dicom"]
    name: Name
    ae_title: AeTitle
    address: str
    port: Port
    tls: Tls | None = None
    commitment: bool = Field(default=False, description="done only after storage commitment")
    objects: tuple[Literal["sr", "sc", "gsps"], ...] = ("sr", "sc", "gsps")


class WebDestination(Section):
    """Takes results by STOW-RS."""

    kind: Literal["dicomweb"]
    name: Name
    url: str = Field(pattern=r"^https?://")
    user: str | None = None
    password_file: HomePath | None = None
    token_file: HomePath | None = None
    authority: HomePath | None = None
    objects: tuple[Literal["sr", "sc", "gsps"], ...] = ("sr", "sc", "gsps")


class Hl7Destination(Section):
    """Takes ORU^R01 over MLLP."""

    kind: Literal["hl7"]
    name: Name
    address: str
    port: Port
    tls: Tls | None = None
    application: str = Field(default="", description="receiving application, MSH-5")
    facility: str = Field(default="", description="receiving facility, MSH-6")


class FhirDestination(Section):
    """Takes a transaction bundle with a DiagnosticReport and its Observations."""

    kind: Literal["fhir"]
    name: Name
    url: str = Field(pattern=r"^https?://")
    token_file: HomePath | None = None
    authority: HomePath | None = None


Destination = Annotated[
    DicomDestination | WebDestination | Hl7Destination | FhirDestination, Field(discriminator="kind")
]


class Results(Section):
    """What is made of an answer."""

    language: Literal["en", "es"] = "en"
    structured_report: bool = True
    secondary_capture: bool = True
    presentation_state: bool = False
    negative: bool = Field(default=True, description="also where nothing was found")
    refused: bool = Field(default=True, description="also where the study could not be read")
    institution: str = ""


class Limits(Section):
    """What one study may cost before its worker is stopped."""

    workers: Annotated[int, Field(ge=0)] = Field(default=1, description="reading processes on this machine")
    memory_gigabytes: Annotated[float, Field(gt=0)] = 4
    seconds: Seconds = 120
    attempts: Annotated[int, Field(ge=1)] = Field(default=4, description="then the study is put aside")
    first_wait: Seconds = Field(default=5, description="before the second attempt; doubles each time")
    longest_wait: Seconds = 3600
    lease_seconds: Seconds = Field(
        default=30, description="a worker that is silent so long is taken for dead"
    )


class Proxy(Section):
    """Logins come from a reverse proxy that sets these headers."""

    user_header: str = "X-Forwarded-User"
    role_header: str = "X-Forwarded-Role"
    networks: Annotated[tuple[Network, ...], Field(min_length=1)] = Field(
        description="where the proxy calls from"
    )


class Web(Section):
    """The page, the API, STOW-RS, metrics and health."""

    address: str = "127.0.0.1"
    port: Port = Field(default=8042, description="0 takes a free one")
    tls: Tls | None = None
    session_hours: Annotated[float, Field(gt=0)] = 12
    proxy: Proxy | None = None
    stow: bool = Field(
        default=True, description="take images by STOW-RS from users with the role admin or sender"
    )
    metrics_networks: tuple[Network, ...] = Field(
        default=("127.0.0.0/8", "::1/128"), description="who may read /metrics without a login"
    )


class Retention(Section):
    """How long what is kept; results, feedback and the audit trail stay."""

    image_days: Annotated[float, Field(ge=0)] | None = Field(
        default=30, description="after all deliveries of a study; null keeps images"
    )
    least_free_gigabytes: Annotated[float, Field(ge=0)] = Field(
        default=1, description="below it images are no longer taken"
    )


class Drift(Section):
    """When the stream of studies counts as unlike the training's."""

    window: Annotated[int, Field(ge=20)] = Field(default=200, description="newest images that are looked at")
    false_alarms_a_year: Annotated[float, Field(gt=0)] = 2
    baseline: Annotated[int, Field(ge=20)] = Field(
        default=500,
        description="first images of this node that the control limits come from, where the bundle has none",
    )


class Audit(Section):
    """Where audit messages go besides the database."""

    syslog: str | None = Field(
        default=None, pattern=r"^(udp|tls)://[^:/]+:\d+$", description="udp:// or tls://host:port"
    )
    authority: HomePath | None = None


class NodeConfiguration(Section):
    """All of ``node.yaml``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ae_title: AeTitle = "FREEZEFRAME"
    folder: HomePath = Field(
        description="images, results, database and logs of this node; only its own user may read it"
    )
    database: str | None = Field(
        default=None,
        description="postgresql+pg8000://... for several machines; SQLite in the folder where left out",
    )
    database_password_file: HomePath | None = None
    uid_root: str = Field(
        default="2.25",
        pattern=r"^[0-9]+(\.(0|[1-9][0-9]*))*$",
        max_length=30,
        description="of new UIDs; 2.25 makes them from UUIDs and needs no registration",
    )
    shadow: bool = Field(default=False, description="everything runs and is recorded, nothing leaves")
    bundles: Annotated[tuple[UsedBundle, ...], Field(min_length=1)]
    dicom: DicomServer | None = DicomServer()
    peers: tuple[Peer, ...] = ()
    sources: tuple[Source, ...] = ()
    complete: Patience = Patience()
    complete_by_source: dict[Name, Patience] = {}
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    results: Results = Results()
    destinations: tuple[Destination, ...] = ()
    limits: Limits = Limits()
    web: Web | None = Web()
    retention: Retention = Retention()
    drift: Drift = Drift()
    audit: Audit = Audit()

    @model_validator(mode="after")
    def _names_are_known_and_unique(self) -> "NodeConfiguration":
        for kind, names in (
            ("bundles", [entry.name for entry in self.bundles]),
            ("peers and sources", [entry.name for entry in (*self.peers, *self.sources)]),
            ("rules", [entry.name for entry in self.rules]),
            ("destinations", [entry.name for entry in self.destinations]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two {kind} have the same name")
        known = [entry.name for entry in self.bundles]
        for rule in self.rules:
            if rule.bundle not in known:
                raise ValueError(
                    f"rule {rule.name}: no bundle '{rule.bundle}'; {did_you_mean(rule.bundle, known)}"
                )
        sources = [UPLOADED, *(entry.name for entry in (*self.peers, *self.sources))]
        for name in self.complete_by_source:
            if name not in sources:
                raise ValueError(f"complete_by_source: no source '{name}'; {did_you_mean(name, sources)}")
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
                f"{origin}: {'; '.join(_problem(entry) for entry in error.errors())}.",
                action="See the table of fields in docs/node.md.",
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
            others = [
                entry for entry in content.get("bundles") or [] if entry.get("name", "default") != "default"
            ]
            own = [
                entry for entry in content.get("bundles") or [] if entry.get("name", "default") == "default"
            ]
            content = {
                **content,
                "bundles": [{**(own[0] if own else {}), "path": str(bundle.absolute())}, *others],
            }
        return cls.parse(_absolute(content, path.absolute().parent), str(path))

    def patience(self, source: str) -> Patience:
        """Return when a study from a source is complete."""
        return self.complete_by_source.get(source, self.complete)

    def bundle(self, name: str) -> UsedBundle:
        """Return the bundle of a name, which is known to be there."""
        return next(entry for entry in self.bundles if entry.name == name)


_PATHS = {
    "folder", "path", "certificate", "key", "authority", "public_key", "password_file", "token_file",
    "database_password_file",
}  # fmt: skip


def _absolute(content: Any, folder: Path) -> Any:
    """Make the paths absolute, so that a node may be started from anywhere."""
    if isinstance(content, Mapping):
        return {
            key: str(folder / Path(value).expanduser())
            if key in _PATHS and isinstance(value, str)
            else _absolute(value, folder)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [_absolute(entry, folder) for entry in content]
    return content


def _problem(entry: Any) -> str:
    place = ".".join(str(part) for part in entry["loc"])
    return (
        f"{place}: {entry['msg'].removeprefix('Value error, ')}"
        if place
        else entry["msg"].removeprefix("Value error, ")
    )
