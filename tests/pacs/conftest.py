"""What the tests of the node share: `orthanc` (a PACS), `certificates`, databases; each part adds its own fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql import PostgreSql
from safetensors.numpy import save

from bundle.making import head_weights, make_bundle, make_graph
from freezeframe.bundle.runtime.contents import HEAT
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, open_database


def _configuration(folder: Path, **fields) -> NodeConfiguration:
    content = {
        "folder": str(folder),
        "bundles": [{"path": str(folder)}],
        "rules": [{"name": "all"}],
        **fields,
    }
    return NodeConfiguration.parse(content, "test")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    """A PostgreSQL that lives as long as the tests."""
    server = PostgreSql()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgresql_port(postgresql) -> int:
    """Its port on 127.0.0.1."""
    return postgresql.port


@pytest.fixture
def sqlite(tmp_path) -> Iterator[Database]:
    database = open_database(_configuration(tmp_path))
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> Iterator[Database]:
    """A new database of each kind."""
    if request.param == "sqlite":
        opened = open_database(_configuration(tmp_path))
    else:
        address = request.getfixturevalue("postgresql").new_database()
        opened = open_database(_configuration(tmp_path, database=address))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory) -> Path:
    """Two members that tell the films apart, with heat maps and an operating point."""
    more = {}
    for place, seed in enumerate((21, 36)):
        more[f"members/member{place}.onnx"] = make_graph(seed=seed)
        more[f"members/member{place}.heat.safetensors"] = save({HEAT: head_weights(2, seed)})
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", more=more)
