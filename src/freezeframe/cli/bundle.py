"""`freezeframe bundle`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from freezeframe.errors import UserError

PASSWORD = "FREEZEFRAME_KEY_PASSWORD"  # noqa: S105 - the name of a variable
app = typer.Typer(
    help="Look at a bundle, check it, sign it, make one file of it.",
    no_args_is_help=True,
)

AnyBundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder or .ffb file.", show_default=False)
]
PublicKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="A minisign public key or its file. A bundle that its holder did not sign is refused.",
        show_default=False,
    ),
]


@app.callback()
def bundle() -> None:
    """Hold the commands of `freezeframe bundle`."""


@app.command("show")
def show_command(bundle: AnyBundle, public_key: PublicKey = None) -> None:
    """Check a bundle and say what it is: classes, members, rule, operating points, parity, identity.

    Examples
    --------
        freezeframe bundle show chest/

        freezeframe bundle show chest.ffb --public-key bundle.pub
    """
    from freezeframe.progress import size
    from freezeframe.verbs.bundle import show

    shown = show(bundle, public_key)
    console = Console(highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in shown.facts:
        facts.add_row(escape(name), escape(text))
    members = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("member", "backbone", "kind", "weight", "input", "size", "also"):
        number = title in ("weight", "input", "size")
        members.add_column(title, justify="right" if number else "left", overflow="fold")
    for member in shown.members:
        members.add_row(
            escape(member.name),
            escape(member.backbone),
            member.kind,
            f"{member.weight:.3f}",
            " x ".join(map(str, member.input_size)),
            size(member.size),
            member.extras,
        )
    console.print(facts)
    console.print()
    console.print(members)


@app.command("verify")
def verify_command(bundle: AnyBundle, public_key: PublicKey = None) -> None:
    """Check a bundle's files, description, graphs and, where a key is given, its signature.

    Exits with 0 where all is as it was made, with 2 and the reason where not.

    Examples
    --------
        freezeframe bundle verify chest.ffb

        freezeframe bundle verify chest/ --public-key RWSTxqHEHoRRV9w7/8AEtOxBySB1bjuOwp7fGqzh5QtJY9o3pMlVNZwf
    """
    from freezeframe.bundle.runtime.folder import open_bundle

    opened = open_bundle(bundle, public_key)
    signature = "signed with the key" if opened.signed else "signature not checked"
    typer.echo(f"{bundle} is as it was made: {len(opened.sizes)} files, {signature}, sha256 {opened.sha256}")


@app.command("keys")
def keys_command(
    out: Annotated[Path, typer.Option(help="Folder for bundle.key and bundle.pub.", show_default=False)],
    password: Annotated[
        bool,
        typer.Option(
            "--password/--no-password",
            help=f"Protect the secret key by a password, which is asked for or in {PASSWORD}.",
        ),
    ] = True,
) -> None:
    """Make a pair of keys: a secret one that signs bundles, and a public one that checks them (minisign, Ed25519).

    Examples
    --------
        freezeframe bundle keys --out keys/
    """
    from freezeframe.bundle.runtime.signature import make_keys

    secret, public = make_keys(out, _password("New password", confirmed=True) if password else "")
    typer.echo(f"Secret key, for you alone: {secret}")
    typer.echo(f"Public key, for whoever runs your bundles: {public}")


@app.command("sign")
def sign_command(
    bundle: AnyBundle,
    key: Annotated[Path, typer.Option(help="The secret key's file.", show_default=False)],
) -> None:
    """Sign a bundle, in place. A key's password is asked for, or in FREEZEFRAME_KEY_PASSWORD.

    Examples
    --------
        freezeframe bundle sign chest.ffb --key keys/bundle.key
    """
    from freezeframe.bundle.runtime.folder import sign

    password = key_password(key)
    typer.echo(f"Signed: {bundle}, sha256 {sign(bundle, key, password).sha256}")


@app.command("pack")
def pack_command(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file, NAME.ffb.", show_default=False)],
) -> None:
    """Make one file of a bundle's folder. The same bundle gives the same bytes.

    Examples
    --------
        freezeframe bundle pack chest/ --out chest.ffb
    """
    from freezeframe.bundle.runtime.folder import open_bundle
    from freezeframe.bundle.runtime.seal import pack

    open_bundle(folder)
    typer.echo(f"Packed: {pack(folder, out)}")


@app.command("unpack")
def unpack_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="NAME.ffb.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder, not there yet or empty.", show_default=False)],
) -> None:
    """Make a folder of a bundle's file.

    Examples
    --------
        freezeframe bundle unpack chest.ffb --out chest/
    """
    from freezeframe.bundle.runtime.folder import open_bundle
    from freezeframe.bundle.runtime.seal import unpack

    open_bundle(file)
    typer.echo(f"Unpacked: {unpack(file, out)}")


@app.command("codes")
def codes_command(
    labels: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLASS]...", help="Classes, as in the training data; all that are known where left out."
        ),
    ] = None,
) -> None:
    """Print which coded concept (SNOMED CT) stands for which class, as a CSV table to edit.

    Examples
    --------
        freezeframe bundle codes NORMAL PNEUMONIA > codes.csv
    """
    from freezeframe.verbs.bundle import codes

    typer.echo(codes(labels or ()), nl=False)


def key_password(key: Path) -> str:
    """Ask for the password of a secret key, where it has one."""
    from freezeframe.bundle.runtime.signature import has_password

    return _password("Password", confirmed=False) if has_password(key) else ""


def _password(words: str, confirmed: bool) -> str:
    if (given := os.environ.get(PASSWORD)) is not None:
        return given
    if not sys.stdin.isatty():
        raise UserError(
            "There is nobody to ask for the key's password.",
            f"a terminal, or the password in {PASSWORD}.",
            "Set it, or make a key without one: --no-password.",
        )
    return typer.prompt(f"{words} (not shown)", hide_input=True, confirmation_prompt=confirmed)
