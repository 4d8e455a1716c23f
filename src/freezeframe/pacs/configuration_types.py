"""What a value of ``node.yaml`` may be: titles, networks, names, paths."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from freezeframe.pacs.expressions import is_attribute, is_expression


def _is_ae_title(title: str) -> str:
    # PS3.5, section 6.2, AE: up to 16 characters of the default repertoire, no backslash, not only spaces.
    if not re.fullmatch(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?", title):
        raise ValueError(
            "is no AE title: 1 to 16 printable ASCII characters, no backslash, no space at an end"
        )
    return title


def _is_network(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is no address and no CIDR network, such as 10.1.0.20 or 10.1.0.0/24") from None
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
HomePath = Annotated[Path, AfterValidator(Path.expanduser)]
Tag = Annotated[
    str,
    Field(pattern=r"^([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}|[A-Z][A-Za-z0-9]*)$"),
    AfterValidator(is_attribute),
]
Expression = Annotated[str, AfterValidator(is_expression)]

# Fields that several sections have.
WebAddress = Annotated[
    str, Field(pattern=r"^https?://", description="https://... or http://..., root of the service")
]
PeerTitle = Annotated[AeTitle, Field(description="that the other side listens as")]
PeerAddress = Annotated[str, Field(description="host name or IP address of the other side")]
PeerPort = Annotated[Port, Field(description="of the other side")]
User = Annotated[str | None, Field(description="for basic authentication")]
PasswordFile = Annotated[HomePath | None, Field(description="file that holds the user's password")]
TokenFile = Annotated[HomePath | None, Field(description="file that holds a bearer token, instead of a user")]
Authority = Annotated[
    HomePath | None,
    Field(description="PEM file: whose certificate the server must have; the system's where left out"),
]
Modalities = Annotated[tuple[str, ...], Field(description="that are fetched; all where the list is empty")]
PollSeconds = Annotated[Seconds, Field(description="between questions")]
DaysBack = Annotated[int, Field(ge=0, description="by StudyDate; 0 asks for today's studies only")]
Objects = Annotated[
    tuple[Literal["sr", "sc", "gsps"], ...],
    Field(description="report, captures, presentation states: those of them that are made"),
]
