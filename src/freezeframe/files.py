"""Files that a kill at any instant leaves either old or new, never half."""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from freezeframe.errors import UserError


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`.

    Parameters
    ----------
    path : Path
        The file to make or replace. Its folder is made where it is missing.

    Raises
    ------
    UserError
        If the folder can't be written or the disk is full; the old file, if any, is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise _explain(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    # There is no call that only reads it. /proc tells without a moment in which other threads see a changed one.
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return 0o022


def _explain(path: Path, error: OSError) -> OSError | UserError:
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return UserError(
            f"The disk is full while writing {path}.",
            "room for it; nothing that was finished is lost.",
            "Free some space, or choose another folder, and run the same command again.",
        )
    if error.errno in (13, 1, 30, 20, 17, 2):  # EACCES, EPERM, EROFS, ENOTDIR, EEXIST, ENOENT
        return UserError(
            f"{path} can't be written ({error.strerror}).",
            "a folder that you may write to.",
            "Choose another folder (--out; for the store: `store:` in the recipe), or change its permissions.",
        )
    return error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is the user's error and is named."""
    return _read(path, json.loads, "JSON")


def write_yaml(path: Path, value: Any) -> None:
    """Write plain data as YAML in the order of its keys, atomically."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def read_yaml(path: Path) -> Any:
    """Read YAML safely; a missing or broken file is the user's error and is named."""
    return _read(path, yaml.safe_load, "YAML")


def _read(path: Path, parse: Any, kind: str) -> Any:
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}.", f"a {kind} file.", "Check the path.") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{path} can't be read as {kind}: {error}", action="Mend or replace the file."
        ) from error


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of plain data, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _lock_file(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise _explain(path, error) from error


@contextlib.contextmanager
def exclusive(path: Path, on_wait: Any = None) -> Iterator[None]:
    """Hold a lock between processes; the system releases it when the holder dies.

    Parameters
    ----------
    path : Path
        The lock file; it is made, and stays.
    on_wait : callable, optional
        Called once, without arguments, if another process holds the lock.
    """
    with _lock_file(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold a lock between processes if nobody else does, without waiting; the system releases it when the holder dies.

    Parameters
    ----------
    path : Path
        The lock file; it is made, and stays.

    Yields
    ------
    bool
        Whether this process holds it.
    """
    with _lock_file(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
