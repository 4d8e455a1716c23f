"""How the application is served: what a request says of its sender is not believed, and no address is logged."""

import ssl

import uvicorn
from fastapi import FastAPI

from freezeframe.pacs.configuration import Web
from freezeframe.pacs.review.connections import MOST_CONNECTIONS, PatientProtocol
from freezeframe.pacs.security import tls


def make_server(app: FastAPI, web: Web) -> uvicorn.Server:
    """Make the server; ``run()`` serves in the calling thread until ``should_exit`` is set.

    Parameters
    ----------
    app : FastAPI
        From `make_app`.
    web : Web
        Address, port (0 takes a free one: see `port_of`) and certificates.
    """
    config = uvicorn.Config(
        app,
        host=web.address,
        port=web.port,
        proxy_headers=False,  # by default X-Forwarded-For of anybody on this machine would be believed
        access_log=False,  # a search's address holds a patient's name
        server_header=False,
        log_config=None,
        http=PatientProtocol,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        ws="none",
    )
    config.load()
    if web.tls is not None:
        context: ssl.SSLContext = tls.server_context(web.tls)
        config.ssl = context
    return uvicorn.Server(config)


def port_of(server: uvicorn.Server) -> int:
    """Return the port of a server that has started (``server.started``)."""
    return int(server.servers[0].sockets[0].getsockname()[1])
