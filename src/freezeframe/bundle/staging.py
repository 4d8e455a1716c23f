"""Where a bundle is made: beside its place, which it takes whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from freezeframe import files
from freezeframe.bundle.runtime.contents import CONTENTS
from freezeframe.bundle.runtime.seal import CHECKSUMS, pack
from freezeframe.errors import UserError

ONE_FILE = ".ffb"


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a folder to make a bundle in; where the block ends well, it becomes `out`, a folder or one ``.ffb`` file.

    An older bundle there is replaced at the end. What an export that was killed left beside it is removed.

    Raises
    ------
    UserError
        If something else is there, or the place can't be written to.
    """
    out = Path(out).absolute()
    aside = out.with_name(f".{out.name}.old")
    _check_place(out)
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if aside.exists() and not out.exists():
            aside.rename(out)  # killed between the two renames below
        for left in [*out.parent.glob(f".{out.name}.*.partial"), aside]:
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        temporary.chmod(0o755)
        yield temporary
        if out.suffix == ONE_FILE:
            pack(temporary, out)
        else:
            if out.is_dir():
                out.rename(aside)
            temporary.rename(out)
            files.sync_folder(out.parent)
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"The bundle {out} can't be written ({error.strerror or error}).",
            "a folder that you may write to, on a disk with room.",
            "Choose another --out, or free some space, and run the same command again.",
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_place(out: Path) -> None:
    if out.suffix == ONE_FILE:
        if out.is_dir():
            raise UserError(f"{out} is a folder.", "a file's name.", "Choose another --out.")
        return
    if out.exists() and not out.is_dir():
        raise UserError(
            f"{out} is a file.", "a folder's name, or one that ends in .ffb.", "Choose another --out."
        )
    if out.is_dir() and any(out.iterdir()):
        missing = [name for name in (CONTENTS, CHECKSUMS) if not (out / name).is_file()]
        if missing:
            raise UserError(
                f"{out} holds something, and is no bundle: it has no {missing[0]}.",
                "a new or empty folder, or a bundle to replace.",
                "Choose another --out.",
            )
