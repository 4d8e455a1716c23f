"""The fields of ``node.yaml`` as Markdown tables, made from their types, for the documentation and the command line."""

import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from freezeframe.pacs import configuration as sections
from freezeframe.pacs.configuration import NodeConfiguration, Section
from freezeframe.pacs.configuration_types import (
    AeTitle,
    Expression,
    Fingerprint,
    HomePath,
    Name,
    Network,
    Port,
    Seconds,
    Tag,
)

SECTIONS: Mapping[str, type[Section]] = {
    "bundles": sections.UsedBundle,
    "dicom": sections.DicomServer,
    "tls": sections.Tls,
    "peers": sections.Peer,
    "sources, kind: folder": sections.WatchedFolder,
    "sources, kind: dicomweb": sections.WebPull,
    "sources, kind: query": sections.QueryPull,
    "complete": sections.Patience,
    "rules": sections.Rule,
    "results": sections.Results,
    "destinations, kind: dicom": sections.DicomDestination,
    "destinations, kind: dicomweb": sections.WebDestination,
    "destinations, kind: hl7": sections.Hl7Destination,
    "destinations, kind: fhir": sections.FhirDestination,
    "limits": sections.Limits,
    "web": sections.Web,
    "web.proxy": sections.Proxy,
    "retention": sections.Retention,
    "drift": sections.Drift,
    "audit": sections.Audit,
}
"""Sections of the file by their headings, in the order in which they are documented."""

_WORDS: Mapping[Any, str] = {
    AeTitle: "AE title",
    Network: "address or network",
    Fingerprint: "SHA-256",
    Name: "name",
    Port: "port",
    Seconds: "seconds",
    HomePath: "path",
    Tag: "attribute",
    Expression: "expression",
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    Path: "path",
}
_LAST_PORT = 65535


def all_fields() -> str:
    """Return all tables, each under its heading."""
    parts = [field_table(NodeConfiguration)]
    for heading, section in SECTIONS.items():
        said = (section.__doc__ or "").strip().splitlines()[0]
        parts += [f"### {heading}", said, field_table(section)]
    return "\n\n".join(parts)


def field_table(section: type[Section]) -> str:
    """Return the fields of a section as a Markdown table.

    Examples
    --------
    >>> print(field_table(sections.Patience).splitlines()[2])
    | `quiet_seconds` | seconds | 30 | after the last image of a study |
    """
    lines = ["| field | value | default | meaning |", "| --- | --- | --- | --- |"]
    hints = get_type_hints(section, include_extras=True)
    for name, field in section.model_fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_value(hints[name])}{_bounds(field)} | {_default(field)} | {meaning} |")
    return "\n".join(lines)


def _value(hint: Any) -> str:
    """Say in a few words what may stand there."""
    if hint in _WORDS:
        return _WORDS[hint]
    if isinstance(hint, type) and issubclass(hint, Section):
        return "section"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        # Annotations of annotations are flattened: a name with a description is still a name.
        for known, word in _WORDS.items():
            if (
                get_origin(known) is Annotated
                and hint.__metadata__[: len(known.__metadata__)] == known.__metadata__
            ):
                return word
        return _value(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_value(entry) for entry in arguments if entry is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return f"{_value(arguments[0])}: {_value(arguments[1])}"
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"[{', '.join(_value(entry) for entry in arguments)}]"
    return f"list of {_value(arguments[0])}"


def _bounds(field: FieldInfo) -> str:
    """Say between which numbers it must be, where that is not obvious."""
    least = next((entry.ge for entry in field.metadata if hasattr(entry, "ge")), None)
    most = next((entry.le for entry in field.metadata if hasattr(entry, "le")), None)
    if least is None or most == _LAST_PORT:
        return ""
    return f", {least} or more" if most is None else f", {least} to {most}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return ""
    if isinstance(field.default, Section):
        return "as below"
    return json.dumps(field.default).strip('"')
