"""Paths in ``node.yaml``: relative to its folder, and the bundle that the command line names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PATHS = {
    "folder", "path", "certificate", "key", "authority", "public_key", "password_file", "token_file",
    "database_password_file",
}  # fmt: skip


def with_default(bundles: Any, path: Path) -> Any:
    """Put a path into the bundle ``default``; what is no list of bundles stays, and is refused as such."""
    if bundles is None:
        bundles = []
    if not isinstance(bundles, list) or not all(isinstance(entry, Mapping) for entry in bundles):
        return bundles
    is_default = [entry.get("name", "default") == "default" for entry in bundles]
    if not any(is_default):
        return [{"path": str(path.absolute())}, *bundles]
    return [
        {**entry, "path": str(path.absolute())} if replaced else entry
        for entry, replaced in zip(bundles, is_default, strict=True)
    ]


def absolute(content: Any, folder: Path) -> Any:
    """Make the paths absolute, so that a node may be started from anywhere."""
    if isinstance(content, Mapping):
        return {
            key: str(folder / Path(value).expanduser())
            if key in _PATHS and isinstance(value, str)
            else absolute(value, folder)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [absolute(entry, folder) for entry in content]
    return content
