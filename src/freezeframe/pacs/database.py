"""The node's database: SQLite in its folder, or PostgreSQL for several machines."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.tables import SCHEMA_VERSION, Base, Delivery, Setting

LOCK_SECONDS = 30
IDLE_SECONDS = 60
"""After which PostgreSQL ends a transaction in which nothing is said: its machine may have lost its power, and the
rows that it has locked would be locked until TCP notices, in hours."""
SILENCE_SECONDS = 150
"""That a PostgreSQL may take to answer; longer than anything waits for a lock of such a transaction."""
_VERSION = "schema_version"


class Database:
    """Transactions of one database.

    Parameters
    ----------
    engine : Engine
        From `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine, in which one transaction writes at a time."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session; what it did is durable when the block has ended, and undone where the block raises.

        On SQLite the block has the only right to write from its start, so nothing that it read can change under it.
        Keep it short, and do nothing slow inside.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            self._connect(session)
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that only reads, and hinders nobody."""
        engine = self.engine.execution_options(reads_only=True)
        with Session(engine, expire_on_commit=False) as session:
            self._connect(session)
            yield session

    def _connect(self, session: Session) -> None:
        if not self.is_sqlite:
            try:
                session.connection()  # which asks a connection that was kept whether it is still one
            except OSError as error:
                raise _away(error) from error

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def open_database(configuration: NodeConfiguration) -> Database:
    """Open the database, and make its tables where it is new.

    Raises
    ------
    UserError
        If it can't be reached, or is of another release.
    """
    url = database_url(configuration)
    engine = _engine(url, configuration.folder)
    shown = url.render_as_string(hide_password=True)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # several processes may start at once
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7366730)")
            Base.metadata.create_all(connection)
            session = Session(connection)
            found = session.get(Setting, _VERSION)
            if found is None:
                session.add(Setting(name=_VERSION, value=str(SCHEMA_VERSION)))
                session.flush()
            elif found.value == "1":
                _bring_to_version_2(connection)
                found.value = "2"
                session.flush()
    except (SQLAlchemyError, OSError) as error:  # the driver lets a time-out before TLS through as it is
        engine.dispose()
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"The database {shown} can't be opened: {reason}",
            "a database that this node may write.",
            "Check `database` and `database_password_file` in the configuration.",
        ) from error
    if found is not None and found.value != str(SCHEMA_VERSION):
        engine.dispose()
        raise UserError(
            f"The database {shown} is of schema version {found.value}.",
            f"version {SCHEMA_VERSION}.",
            "Use the release of freezeframe that made it, or begin with a new folder.",
        )
    return Database(engine)


def _bring_to_version_2(connection: Connection) -> None:
    """Add what version 1 has not: who holds a delivery."""
    table = Base.metadata.tables[Delivery.__tablename__]
    column = table.c.held_until
    kind = column.type.compile(connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")
    for index in table.indexes:
        if column in index.columns.values():
            index.create(connection)


def database_url(configuration: NodeConfiguration) -> URL:
    """Return where the database is, with its password."""
    if configuration.database is None:
        return URL.create("sqlite", database=str(configuration.folder / "node.sqlite"))
    try:
        url = make_url(configuration.database)
    except ArgumentError as error:
        raise UserError(
            "database: is no address of a database.", "such as postgresql+pg8000://user@host/name."
        ) from error
    if url.get_backend_name() not in ("postgresql", "sqlite"):
        raise UserError(f"database: is of kind {url.drivername}.", "postgresql+pg8000 or sqlite.")
    if configuration.database_password_file is not None:
        url = url.set(password=_password(configuration.database_password_file))
    return url


def _password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(
            f"{path}, the file of the database's password, can't be read ({reason}).",
            "a file that the node's user may read.",
            "Check `database_password_file` in the configuration, and the file's owner.",
        ) from error


def _engine(url: URL, folder: Path) -> Engine:
    if url.get_backend_name() == "postgresql":
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+pg8000")
        arguments = {"timeout": SILENCE_SECONDS} if url.drivername == "postgresql+pg8000" else {}
        engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
        event.listen(engine, "connect", _set_up_postgresql)
        event.listen(engine, "handle_error", _call_network_errors_the_databases)
        return engine
    make_private(folder)
    if url.database and url.database != ":memory:":
        _make_file_private(Path(url.database))
    # Texts of errors would hold what was to be stored: names of patients.
    engine = create_engine(
        url, connect_args={"timeout": LOCK_SECONDS, "check_same_thread": False}, hide_parameters=True
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def make_private(folder: Path) -> Path:
    """Make a folder that only its owner may read."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} can't be made ({error.strerror}).", "a folder that this node may write to."
        ) from error
    return folder


def _make_file_private(path: Path) -> None:
    """Make a file that only its owner may read, or take it from others: its folder may be open to them.

    What SQLite keeps beside it (write-ahead log, shared memory) gets the same permissions.
    """
    with contextlib.suppress(OSError):  # SQLite says better why it can't be opened
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _call_network_errors_the_databases(context: ExceptionContext) -> None:
    # PostgreSQL's driver lets what happens while it reads through as it is, and nobody could tell it from a disk's.
    if isinstance(context.original_exception, OSError):
        context.is_disconnect = True
        raise _away(context.original_exception) from context.original_exception


def _away(error: OSError) -> OperationalError:
    return OperationalError(None, None, error, hide_parameters=True, connection_invalidated=True)


def _set_up_postgresql(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
    cursor.close()
    connection.commit()


def _set_up_sqlite(connection: Any, _: Any) -> None:
    # The driver would begin transactions by itself, late and only for some statements.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    reads = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
