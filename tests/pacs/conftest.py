"""What the tests of the node share: `orthanc` (a PACS), `certificates`, databases; each part adds its own fixtures."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pg8000.native
import pytest
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
def postgresql_port() -> Iterator[int]:
    """Port of a PostgreSQL that lives as long as the tests."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # a path short enough for a socket
    identity: dict = {}
    if os.geteuid() == 0:  # as which it refuses to run
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "node", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8"],
        check=True, capture_output=True, cwd=folder, **identity,
    )  # fmt: skip
    options = ["-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, "-p", str(port), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **identity,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                pg8000.native.Connection("node", host="127.0.0.1", port=port, database="postgres").close()
                break
            except Exception:
                assert server.poll() is None, "PostgreSQL ended"
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(folder)


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
        port = request.getfixturevalue("postgresql_port")
        name = f"node_{time.monotonic_ns()}"
        connection = pg8000.native.Connection("node", host="127.0.0.1", port=port, database="postgres")
        connection.run(f"CREATE DATABASE {name}")
        connection.close()
        opened = open_database(
            _configuration(tmp_path, database=f"postgresql+pg8000://node@127.0.0.1:{port}/{name}")
        )
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
