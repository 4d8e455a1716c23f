"""Look at bundles, check, sign and pack them; none of it needs torch."""

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freezeframe.bundle.codes import codes_for, default_table, write_table
from freezeframe.bundle.runtime.contents import Code, Contents, Point
from freezeframe.bundle.runtime.folder import Bundle, open_bundle
from freezeframe.progress import size


@dataclass(frozen=True)
class MemberRow:
    """What is shown of a member.

    Attributes
    ----------
    name, backbone, kind : str
        Of the member; kind is 'float32' or 'int8'.
    weight : float
        In the rule.
    input_size : (int, int)
        Height and width, in pixels.
    size : int
        Bytes of its graph.
    extras : str
        What else it can: 'heat maps', 'screening'.
    """

    name: str
    backbone: str
    kind: str
    weight: float
    input_size: tuple[int, int]
    size: int
    extras: str


@dataclass(frozen=True)
class Shown:
    """What is shown of a bundle.

    Attributes
    ----------
    facts : tuple of (str, str)
        Words and what they are, in order.
    members : tuple of MemberRow
        In the order of the bundle.
    """

    facts: tuple[tuple[str, str], ...]
    members: tuple[MemberRow, ...]


def show(path: Path, public_key: str | Path | None = None) -> Shown:
    """Open a bundle, check all of it and say what it is.

    Parameters
    ----------
    path : Path
        Its folder or ``.ffb`` file.
    public_key : str or Path, optional
        A minisign key or its file; a bundle without its signature is refused.

    Raises
    ------
    UserError
        If the bundle is refused.
    """
    bundle = open_bundle(path, public_key)
    contents = bundle.contents
    facts = [
        ("name", contents.name),
        ("made", f"{contents.made} with freezeframe {contents.versions.get('freezeframe') or 'unknown'}"),
        ("classes", "; ".join(_class(entry.label, entry.code) for entry in contents.classes)),
        ("rule", contents.rule),
        ("temperature", "none" if contents.temperature is None else f"{contents.temperature:.3f}"),
        *(
            (f"operating point {point.name}" + " (default)" * (index == 0), _point(point))
            for index, point in enumerate(contents.operating_points)
        ),
        *(("intended for", text) for text in [_intended(contents)] if text),
        *((f"parity: {name}", text) for name, text in _flat(contents.parity)),
        ("licence", contents.licence or "not said"),
        ("files", f"{len(bundle.sizes)}, {size(sum(bundle.sizes.values()))}"),
        ("sha256", bundle.sha256),
        ("signature", _signature(bundle)),
    ]
    members = tuple(
        MemberRow(
            member.name,
            member.backbone,
            member.kind,
            member.weight,
            (member.prepared_by().height, member.prepared_by().width),
            bundle.sizes[member.graph],
            ", ".join(
                word for word, has in (("heat maps", member.heat), ("screening", member.reference)) if has
            ),
        )
        for member in contents.members
    )
    return Shown(tuple(facts), members)


def codes(labels: Sequence[str] = ()) -> str:
    """Return a table of coded classes as CSV, to be edited and given to the export.

    Parameters
    ----------
    labels : sequence of str
        The classes, one row each, with the code that freezeframe knows or without one; where left out, all that
        freezeframe knows.
    """
    return write_table(codes_for(labels) if labels else default_table())


def _class(label: str, code: Code | None) -> str:
    return f"{label} ({code.scheme} {code.value} {code.meaning})" if code else f"{label} (no code)"


def _point(point: Point) -> str:
    chosen = point.threshold()
    target = "" if chosen.target is None else f" of at least {chosen.target:g}"
    return (
        f"'{chosen.positive_class}' from {chosen.threshold:.3f} ({chosen.rule}{target}); on {chosen.positives:,} + "
        f"{chosen.negatives:,} validation images sensitivity {chosen.sensitivity:.3f}, "
        f"specificity {chosen.specificity:.3f}"
    )


def _intended(contents: Contents) -> str:
    intended = contents.intended
    named = [
        ", ".join(values) for values in (intended.modalities, intended.body_parts, intended.views) if values
    ]
    ages = [f"{intended.ages[0]:g} to {intended.ages[1]:g} years"] if intended.ages else []
    return "; ".join(named + ages)


def _flat(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{above}{name}.")
        elif isinstance(value, bool | str):
            rows.append((above + name, str(value).lower() if isinstance(value, bool) else value))
        elif isinstance(value, numbers.Real):
            rows.append((above + name, f"{value:,}" if isinstance(value, int) else f"{float(value):.3g}"))
    return rows


def _signature(bundle: Bundle) -> str:
    if bundle.signed:
        return "checked with the public key"
    return "there, but not checked: give --public-key" if bundle.carries_signature else "none"
