"""What is wrong with a ``node.yaml``, said by the names of its fields, with the nearest one where one is misspelt."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from freezeframe.errors import did_you_mean

if TYPE_CHECKING:
    from freezeframe.pacs.configuration import NodeConfiguration

_KIND = "kind"
"""Says which of several sections one is; pydantic puts it into the place of a problem, where no field is."""
_IS_NO_NAME = "is no name: 1 to 32 small letters, digits, '-' and '_', the first a letter or digit"


def described(error: ValidationError, configuration: type[BaseModel]) -> str:
    """Return all problems, each on a line where there are several; secret values are not repeated.

    Parameters
    ----------
    error : ValidationError
        Of validating plain data.
    configuration : type of BaseModel
        That it was validated as.
    """
    entries = error.errors()
    # A list whose only entry is wrong is also called too short, which helps nobody.
    told = [
        entry
        for entry in entries
        if entry["type"] != "too_short"
        or not any(
            len(other["loc"]) > len(entry["loc"]) and other["loc"][: len(entry["loc"])] == entry["loc"]
            for other in entries
        )
    ]
    problems = [_described(entry, configuration).removesuffix(".") for entry in told]
    return problems[0] if len(problems) == 1 else "\n  " + "\n  ".join(problems)


def contradictions(configuration: "NodeConfiguration", uploaded: str) -> list[str]:
    """Return which names are given twice, and which that are referred to are not there.

    Parameters
    ----------
    configuration : NodeConfiguration
        Whose fields are right one by one.
    uploaded : str
        Source of what comes by STOW-RS, which has no entry of its own.
    """
    problems: list[str] = []
    for kind, names in (
        ("bundles", [entry.name for entry in configuration.bundles]),
        ("peers and sources", [entry.name for entry in (*configuration.peers, *configuration.sources)]),
        ("rules", [entry.name for entry in configuration.rules]),
        ("destinations", [entry.name for entry in configuration.destinations]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [f"two {kind} have the name '{name}'" for name in twice]
    known = [entry.name for entry in configuration.bundles]
    for rule in configuration.rules:
        if rule.bundle not in known:
            suggestion = did_you_mean(rule.bundle, known)
            problems.append(f"rule {rule.name}: no bundle '{rule.bundle}'; {suggestion}")
    sources = [uploaded, *(entry.name for entry in (*configuration.peers, *configuration.sources))]
    for name in configuration.complete_by_source:
        if name not in sources:
            problems.append(
                f"complete_by_source: no source '{name}'; {did_you_mean(name, dict.fromkeys(sources))}"
            )
    return problems


def _described(entry: ErrorDetails, configuration: type[BaseModel]) -> str:
    names, sections = _place(entry["loc"], configuration)
    place = ".".join(names)
    if entry["type"] == "extra_forbidden":
        known = dict.fromkeys(name for section in sections for name in section.model_fields)
        return f"{place}: no field '{names[-1]}'; {did_you_mean(names[-1], known)}"
    if entry["type"] == "missing":
        return f"{place}: is missing"
    if entry["type"] in ("union_tag_not_found", "union_tag_invalid"):
        kinds = [kind for section in sections for kind in _kinds(section)]
        given = entry.get("ctx", {}).get("tag")
        found = "is missing" if given is None else f"no kind '{given}'"
        suggestion = f"one of: {', '.join(kinds)}." if given is None else did_you_mean(given, kinds)
        return f"{place}.{_KIND}: {found}; {suggestion}"
    if entry["type"] == "string_pattern_mismatch" and names[-1] == "name":
        return f"{place}: {_IS_NO_NAME}"
    message = entry["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _place(
    location: Sequence[str | int], configuration: type[BaseModel]
) -> tuple[list[str], list[type[BaseModel]]]:
    """Return the names as they stand in the file, and the sections that could be meant by the last one but the field.

    Of a field that is unknown these are the sections that it stands in.
    """
    names: list[str] = []
    sections: list[type[BaseModel]] = [configuration]
    for part in location:
        of_kind = [section for section in sections if part in _kinds(section)]
        if len(sections) > 1 and of_kind:
            sections = of_kind
            continue
        names.append(str(part))
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if fields:
            sections = [inner for field in fields for inner in _sections(field.annotation)]
    return names, sections


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections in a type, such as those of a tuple or a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]


def _kinds(section: type[BaseModel]) -> tuple[str, ...]:
    field = section.model_fields.get(_KIND)
    return () if field is None else get_args(field.annotation)
