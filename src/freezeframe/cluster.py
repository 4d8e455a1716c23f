"""Ray, from the side of the command that asks: connecting, or starting it on this machine alone."""

import contextlib
import importlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from freezeframe.errors import UserError

AUTO, LOCAL = "auto", "local"
SECONDS_TO_CONNECT = 10.0
TOKEN = Path("~/.ray/auth_token")
"""Where Ray keeps the token of its clusters; a local one makes it."""


@contextlib.contextmanager
def connected(
    address: str, asked: str, namespace: str | None = None, cores: int | None = None
) -> Iterator[Any]:
    """Connect to a cluster, or start Ray on this machine, while the block runs; yields the package.

    Parameters
    ----------
    address : str
        ``HOST:PORT``; 'auto': the cluster that RAY_ADDRESS names, or that runs on this machine; 'local': one that is
        started here and ends with the block.
    asked : str
        How the user asked for it, as the begin of a message.
    namespace : str, optional
        Of named actors.
    cores : int, optional
        That a local one may use.

    Raises
    ------
    UserError
        If Ray is not installed or there is no cluster.
    """
    # The driver's own settings, which the user's environment may replace.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A head that finds a token asks for it, but Ray shows it only to clusters that it finds by itself.
    if address != LOCAL and TOKEN.expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{asked}, and Ray is not installed.",
            "the package ray, on all nodes.",
            "pip install 'freezeframe[cluster]'",
        ) from error
    if ray.is_initialized():
        yield ray
        return
    options = {"namespace": namespace, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            # A cluster that happens to run here, or that RAY_ADDRESS names, is not meant.
            ray.init(address=LOCAL, num_cpus=cores, include_dashboard=False, **options)
        else:
            _check_address(os.environ.get("RAY_ADDRESS", "") if address == AUTO else address)
            ray.init(address=address, **options)
    except OSError as error:  # a ConnectionError, from Ray
        raise UserError(
            f"{asked}, and there is no Ray cluster{'' if address == AUTO else f' at {address}'} ({error}).",
            "one that was started before, or work on this machine alone.",
            "`ray start --head`, and `ray start --address=...` on the other machines. See `docs/cluster.md`.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise an OSError where nobody answers, for which Ray would wait long and then end this process."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
