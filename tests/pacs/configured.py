"""Configurations of nodes for tests."""

from pathlib import Path
from typing import Any

from freezeframe.pacs.configuration import NodeConfiguration


def configured(folder: Path, **fields: Any) -> NodeConfiguration:
    """Make a configuration; every image is read with one bundle, where no rules are given."""
    content = {
        "folder": str(folder),
        "bundles": [{"path": str(folder)}, {"name": "second", "path": str(folder)}],
        "rules": [{"name": "all"}],
        "complete": {"quiet_seconds": 30, "at_most_seconds": 300},
        **fields,
    }
    return NodeConfiguration.parse(content, "test")
