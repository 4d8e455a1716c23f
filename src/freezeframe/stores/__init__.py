"""Content-addressed records on disk: decoded pixels and activations."""

import os
from pathlib import Path


def home() -> Path:
    """Return the folder of all that is kept between jobs: ``$FREEZEFRAME_HOME`` or ``~/.cache/freezeframe``."""
    return Path(os.environ.get("FREEZEFRAME_HOME") or "~/.cache/freezeframe").expanduser()


def default_store() -> Path:
    """Return the store's folder where a recipe names none."""
    return home() / "store"
