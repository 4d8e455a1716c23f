"""What the tests of intake share: a node's configuration, a keeper, and phantom images in files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dicom_files import write_image

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.intake.keeping import Keeper


@pytest.fixture
def configuration(tmp_path) -> NodeConfiguration:
    """Of a node on a free port that takes images of one peer with two AE titles."""
    return NodeConfiguration.parse(
        {
            "folder": str(tmp_path / "node"),
            "bundles": [{"path": "bundle"}],
            "rules": [{"name": "all"}],
            "dicom": {"port": 0},
            "peers": [
                {"name": "pacs", "ae_titles": ["PACS", "PACS_SEND"]},
                {"name": "pinger", "ae_titles": ["PINGER"], "may": ["echo"]},
            ],
            "retention": {"least_free_gigabytes": 0},
        },
        "node.yaml",
    )


@pytest.fixture
def database(configuration) -> Iterator[Database]:
    """Of that node."""
    opened = open_database(configuration)
    yield opened
    opened.close()


@pytest.fixture
def keeper(database, configuration) -> Keeper:
    """Of that node."""
    return Keeper(database, configuration)


@pytest.fixture
def image(tmp_path) -> Callable[..., Path]:
    """Write a small radiograph, each time another one; arguments as of `dicom_files.write_image`."""
    count = 0

    def write(**attributes: object) -> Path:
        nonlocal count
        count += 1
        return write_image(tmp_path / "films" / f"{count}.dcm", count, **attributes)

    return write
