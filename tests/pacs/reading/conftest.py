"""Small bundles for tests of reading."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bundle.making import make_bundle
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, open_database

PACS = {"kind": "dicom", "name": "archive", "ae_title": "ARCHIVE", "address": "127.0.0.1", "port": 1}
"""Where results go; nobody listens there."""


@pytest.fixture(scope="session")
def dark_is_nothing(tmp_path_factory) -> Path:
    """A bundle of one member to which black is 0, so that only what is bright can be seen in its heat map."""
    preprocessing = Preprocessing.from_steps([{"resize": {"size": 64}}], (64, 64), (0.0,) * 3, (1.0,) * 3)
    member = {
        "name": "member0",
        "backbone": "small",
        "weight": 1.0,
        "graph": "members/member0.onnx",
        "preprocessing": preprocessing.to_dict(),
        "heat": "members/member0.heat.safetensors",
    }
    return make_bundle(
        tmp_path_factory.mktemp("bundle") / "dark",
        members=1,
        size=64,
        changes={"members": [member], "operating_points": []},
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def node(request, tmp_path, small_bundle) -> Iterator[tuple[Database, NodeConfiguration]]:
    """A new database of each kind, and the configuration of a node that uses it."""
    more: dict[str, object] = {"destinations": [PACS]}
    if request.param == "postgresql":
        more["database"] = request.getfixturevalue("postgresql").new_database()
    configuration = configured(tmp_path / "node", small_bundle, **more)
    with closing(open_database(configuration)) as database:
        yield database, configuration


def configured(folder: Path, bundle: Path, **more: object) -> NodeConfiguration:
    content = {"folder": str(folder), "bundles": [{"path": str(bundle)}], "rules": [{"name": "all"}]}
    return NodeConfiguration.parse(content | more, "node.yaml")


@pytest.fixture(scope="session")
def configure():
    """Make the configuration of a node with one bundle: ``configure(folder, bundle, **fields)``."""
    return configured
