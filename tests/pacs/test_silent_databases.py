"""A machine that falls silent, at either end of the connection to PostgreSQL, does not stop the others for hours."""

import socket
import threading
import time

import pytest
from configured import configured
from sqlalchemy import select, text
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from freezeframe.errors import UserError
from freezeframe.pacs import database as database_module
from freezeframe.pacs.database import open_database
from freezeframe.pacs.tables import Setting


def test_what_a_silent_machine_has_locked_is_free_again(postgresql, tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "IDLE_SECONDS", 1)
    configuration = configured(tmp_path, database=postgresql.new_database())
    silent, other = open_database(configuration), open_database(configuration)
    is_locked, go_on = threading.Event(), threading.Event()
    failures: list[Exception] = []

    def fall_silent() -> None:
        try:
            with silent.transaction() as session:
                session.scalars(select(Setting).with_for_update()).all()
                is_locked.set()
                go_on.wait(120)
        except SQLAlchemyError as error:
            failures.append(error)

    thread = threading.Thread(target=fall_silent)
    thread.start()
    try:
        assert is_locked.wait(60)
        began = time.monotonic()
        with other.transaction() as session:
            session.scalars(select(Setting).with_for_update()).one()
        assert time.monotonic() - began < 60
    finally:
        go_on.set()
        thread.join(60)
        silent.close()
        other.close()
    assert len(failures) == 1  # what it did is undone, and it is told


def test_a_server_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "SILENCE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        configuration = configured(tmp_path, database=f"postgresql+pg8000://node@127.0.0.1:{port}/node")
        with pytest.raises(UserError, match="can't be opened"):
            open_database(configuration)


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_connection_that_breaks_is_an_error_of_the_database_and_not_of_the_disk(
    postgresql, tmp_path, is_busy
):
    # A worker tells by it whether a study failed, or nothing of it.
    database = open_database(configured(tmp_path, database=postgresql.new_database()))
    others = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def kill_the_others() -> None:
        with database.engine.connect() as connection:
            connection.execute(others)

    def ask() -> None:
        with database.transaction() as session:
            if is_busy:
                kill_the_others()
            session.scalars(select(Setting)).one()

    try:
        for _ in range(5):
            if is_busy:
                with pytest.raises((OperationalError, InterfaceError)):
                    ask()
            else:
                with database.engine.connect(), database.engine.connect():
                    pass  # two that are kept
                kill_the_others()
                try:
                    ask()
                except SQLAlchemyError:
                    ask()
    finally:
        database.close()
