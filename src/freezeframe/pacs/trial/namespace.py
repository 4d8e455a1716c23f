"""A program in a network namespace of its own, and sockets that lead into it and out of it.

Debian's Orthanc listens on every address. In a namespace that has nothing but loopback nobody else reaches it; a
socket belongs to the namespace that it was made in, so a thread that enters it for a moment can make the ends there.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from freezeframe.errors import FreezeframeError

Made = TypeVar("Made")
CLONE_NEWNET = 0x40000000
LOOPBACK = "127.0.0.1"


class Namespace:
    """A network namespace with loopback only, which is gone with the program that runs in it.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    output : Path
        Takes what it says of errors.
    """

    @staticmethod
    def is_possible() -> bool:
        """Tell whether this process may make one: root may, where iproute2 and util-linux are installed."""
        return os.geteuid() == 0 and all(map(shutil.which, ("ip", "unshare", "setpriv")))

    def __init__(self, command: Sequence[str], output: Path) -> None:
        self._listeners: list[socket.socket] = []
        inside = 'ip link set lo up && echo up && exec "$@"'
        with output.open("ab") as handle:
            self.process = subprocess.Popen(
                # The program dies with the thread that started it, so that a test that is killed leaves none behind.
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", inside, "sh", *command],
                stdout=subprocess.PIPE,
                stderr=handle,
                stdin=subprocess.DEVNULL,
            )
        assert self.process.stdout is not None
        # The line says that the process is in its namespace; all that it prints later is read and dropped.
        if self.process.stdout.readline() != b"up\n":
            raise FreezeframeError(f"No network namespace: {output.read_text(errors='replace').strip()}")
        self._handle = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY)
        threading.Thread(target=self._drain, daemon=True).start()

    def lead_in(self, port: int) -> int:
        """Listen on a free port of this side's loopback for what listens on `port` inside; return the free port."""
        outside = socket.create_server((LOOPBACK, 0))
        self._lead(
            outside, lambda: self._inside(lambda: socket.create_connection((LOOPBACK, port), timeout=10))
        )
        return outside.getsockname()[1]

    def lead_out(self, port: int) -> None:
        """Listen inside on `port` for what listens on the same port of this side's loopback."""
        inside = self._inside(lambda: socket.create_server((LOOPBACK, port)))
        self._lead(inside, lambda: socket.create_connection((LOOPBACK, port), timeout=10))

    def close(self) -> None:
        """Kill the program, with which the namespace goes, and stop listening for it."""
        self.process.kill()
        self.process.wait(timeout=60)
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        self._listeners.clear()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _drain(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for _ in stream:
                pass

    def _inside(self, make: Callable[[], Made]) -> Made:
        """Do something in a thread that has entered the namespace, and ends there."""
        made: list[Made] = []
        failed: list[OSError] = []

        def enter() -> None:
            try:
                if ctypes.CDLL(None, use_errno=True).setns(self._handle, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                made.append(make())
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def _lead(self, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        self._listeners.append(listener)
        threading.Thread(target=_accept, args=(listener, connect), daemon=True).start()


class Outside:
    """A program without a namespace of its own, with the same methods: its ports are this machine's."""

    def __init__(self, command: Sequence[str], output: Path) -> None:
        with output.open("ab") as handle:
            self.process = subprocess.Popen(command, stdout=handle, stderr=handle, stdin=subprocess.DEVNULL)

    def lead_in(self, port: int) -> int:
        """Return the port: it is open already."""
        return port

    def lead_out(self, port: int) -> None:
        """Do nothing: the program reaches it already."""

    def close(self) -> None:
        """Kill the program."""
        self.process.kill()
        self.process.wait(timeout=60)


def _accept(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with suppress(OSError):  # closed: the end
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_join, args=(near, connect), daemon=True).start()


def _join(near: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with near:
        try:
            far = connect()
        except OSError:
            return  # nothing listens there: the caller sees its connection closed
        with far:
            for end in (near, far):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(1 << 17):
            sink.sendall(block)
    # What one side has ended ends on the other too; an abort ends both directions.
    for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with suppress(OSError):
            end.shutdown(how)
