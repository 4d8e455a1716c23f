"""A real PostgreSQL of the tests' own, which may be killed."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pg8000.native

LOOPBACK = "127.0.0.1"
START_SECONDS = 120


class PostgreSql:
    """A server on a free port; the user `node` needs no password.

    Attributes
    ----------
    port : int
        On 127.0.0.1.
    """

    def __init__(self, durable: bool = False) -> None:
        self._programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # a path short enough for a socket
        self._identity: dict = {}
        if os.geteuid() == 0:  # as which it refuses to run
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            self._identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            self.port: int = free.getsockname()[1]
        self._fsync = "on" if durable else "off"
        options = ["-U", "node", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run(
            [self._programs / "initdb", "-D", self._folder / "data", *options],
            check=True, capture_output=True, cwd=self._folder, **self._identity,
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it, also again after `kill`, and return when it answers."""
        deadline = time.monotonic() + START_SECONDS
        self._launch()
        while True:
            try:
                self._connect().close()
                return
            except Exception:
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                if (
                    self._server.poll() is not None
                ):  # a process of a killed one may still have held its memory
                    self._launch()
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9 of all its processes."""
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text().split()
        self._server.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._server.wait(60)
        (self._folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def _launch(self) -> None:
        options = ["unix_socket_directories=", f"listen_addresses={LOOPBACK}", f"fsync={self._fsync}"]
        self._server = subprocess.Popen(
            [
                self._programs / "postgres", "-D", self._folder / "data", "-p", str(self.port),
                *(word for option in options for word in ("-c", option)),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder, start_new_session=True,
            **self._identity,
        )  # fmt: skip

    def new_database(self) -> str:
        """Make a database and return its address."""
        name = f"node_{time.monotonic_ns()}"
        connection = self._connect()
        connection.run(f"CREATE DATABASE {name}")
        connection.close()
        return f"postgresql+pg8000://node@{LOOPBACK}:{self.port}/{name}"

    def close(self) -> None:
        """End it and remove all of it."""
        self._server.terminate()
        try:
            self._server.wait(60)
        finally:
            self._server.kill()
            shutil.rmtree(self._folder)

    def _connect(self) -> pg8000.native.Connection:
        return pg8000.native.Connection("node", host=LOOPBACK, port=self.port, database="postgres")
