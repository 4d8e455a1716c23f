import threading
import time

import pytest
from sqlalchemy import select

from freezeframe.pacs.security import audit, logins, passwords, slowing
from freezeframe.pacs.security.logins import BasicLogins, LoginRefusedError
from freezeframe.pacs.security.slowing import BY_ADDRESS, BY_USER, TooManyAttemptsError
from freezeframe.pacs.tables import AuditEntry, Login, LoginFailure, LoginPlace, User

PASSWORD = "three words and more"
HOURS = 3600.0
HERE = "10.0.0.1"


@pytest.fixture(scope="module")
def password_hash() -> str:
    return passwords.hash_password(PASSWORD)


@pytest.fixture
def users(sqlite, password_hash):
    add(sqlite, password_hash)
    return sqlite


def add(database, password_hash: str) -> None:
    with database.transaction() as session:
        for name, role in (("anna", "reader"), ("berta", "admin")):
            session.add(User(name=name, role=role, password_hash=password_hash, created_at=0.0))


def log_in(database, user="anna", password=PASSWORD, address=HERE, now=1000.0):
    return logins.log_in(database, user, password, address, 12 * HOURS, now)


def find(database, token, now, used=True):
    return logins.find(database, token, 12 * HOURS, now, used)


def fail(database, user="anna", address=HERE, now=1000.0) -> None:
    with pytest.raises(LoginRefusedError):
        log_in(database, user, "wrong", address, now)


def attempt(database, user="anna", address=HERE, now=1000.0) -> None:
    """Count an attempt, which costs nothing, as a login with a wrong password does."""
    with database.transaction() as session:
        slowing.begin_attempt(session, user, address, now)


def test_a_session_opens_with_the_right_password(users):
    opened = log_in(users)
    account = find(users, opened.token, 1001.0)
    assert account == logins.Account("anna", "reader", opened.csrf_token)


def test_the_database_holds_only_the_hash_of_a_sessions_secret(users):
    opened = log_in(users)
    with users.reading() as session:
        row = session.scalars(select(Login)).one()
    assert opened.token not in (row.token_sha256, row.csrf_token)
    assert find(users, row.token_sha256, 1001.0) is None


@pytest.mark.parametrize("user", ["anna", "nobody", "", "x" * 1000, "a\0b", "\ud800"])
def test_a_wrong_password_and_an_unknown_user_are_told_the_same(users, user):
    with pytest.raises(LoginRefusedError, match="User or password are not right"):
        log_in(users, user, "wrong")


def test_a_disabled_user_does_not_get_in(users):
    passwords.disable(users, "anna")
    with pytest.raises(LoginRefusedError):
        log_in(users)


def test_a_session_ends_when_it_is_not_used(users):
    opened = log_in(users, now=1000.0)
    assert find(users, opened.token, 1000.0 + logins.IDLE_SECONDS - 1) is not None
    assert find(users, opened.token, 1000.0 + 2 * logins.IDLE_SECONDS) is None


def test_use_prolongs_a_session_but_not_beyond_its_end(users):
    opened, now = log_in(users, now=0.0), 0.0
    while now < 12 * HOURS - 1000:
        now += 1000
        assert find(users, opened.token, now) is not None
    assert find(users, opened.token, 12 * HOURS) is None


def test_what_a_page_asks_by_itself_does_not_prolong_a_session(users):
    opened = log_in(users, now=0.0)
    for now in range(0, int(logins.IDLE_SECONDS), 60):
        assert find(users, opened.token, float(now), used=False) is not None
    assert find(users, opened.token, logins.IDLE_SECONDS, used=False) is None


def test_after_a_logout_the_secret_opens_nothing(users):
    opened = log_in(users)
    logins.log_out(users, opened.token, 1001.0)
    logins.log_out(users, opened.token, 1002.0)
    assert find(users, opened.token, 1003.0) is None


def test_a_change_of_role_counts_at_once(users):
    opened = log_in(users)
    with users.transaction() as session:
        session.get_one(User, "anna").role = "viewer"
    found = find(users, opened.token, 1001.0)
    assert found is not None
    assert found.role == "viewer"


def test_logins_logouts_and_failures_are_audited_without_what_was_typed(users):
    opened = log_in(users)
    logins.log_out(users, opened.token, 1001.0)
    fail(users)
    fail(users, user="my secret password")
    with users.reading() as session:
        lines = [
            (line.who, line.what, line.target, line.outcome) for line in session.scalars(select(AuditEntry))
        ]
        rows = session.scalars(select(LoginFailure.user)).all()
    assert lines == [
        ("anna", audit.LOGIN, HERE, "success"),
        ("anna", audit.LOGOUT, "", "success"),
        ("anna", audit.LOGIN_FAILED, HERE, "failure"),
        ("unknown", audit.LOGIN_FAILED, HERE, "failure"),
    ]
    assert all("secret" not in row for row in rows)


def test_failures_make_the_next_attempt_of_a_name_wait_ever_longer(users):
    now, waits = 1000.0, []
    for _ in range(BY_USER.free + 12):
        try:
            attempt(users, now=now, address=f"10.0.{len(waits)}.1")
            waits.append(0)
        except TooManyAttemptsError as error:
            waits.append(error.seconds)
            now += error.seconds
            attempt(users, now=now)
    assert waits[: BY_USER.free] == [0] * BY_USER.free
    assert waits[BY_USER.free : BY_USER.free + 4] == [1, 2, 4, 8]
    assert waits[-1] == BY_USER.longest


def test_an_attempt_that_must_wait_is_refused_even_with_the_right_password(users):
    for _ in range(BY_USER.free):
        attempt(users)
    with pytest.raises(TooManyAttemptsError) as error:
        log_in(users)
    assert error.value.seconds == 1
    assert log_in(users, now=1001.0).role == "reader"


def test_a_right_password_forgets_the_failures_of_its_name_only(users):
    for _ in range(BY_USER.free - 1):
        attempt(users, "anna")
        attempt(users, "berta")
    log_in(users, "anna")
    attempt(users, "anna")
    attempt(users, "berta")
    with pytest.raises(TooManyAttemptsError):
        attempt(users, "berta")


def test_an_address_that_tries_many_names_waits_and_another_does_not(users):
    for number in range(BY_ADDRESS.free):
        attempt(users, f"name{number}")
    with pytest.raises(TooManyAttemptsError):
        attempt(users, "anna")
    attempt(users, "anna", address="10.0.0.2")


def test_the_addresses_of_one_ipv6_network_count_as_one(users):
    for number in range(BY_ADDRESS.free):
        attempt(users, f"name{number}", address=f"2001:db8:0:1::{number:x}")
    with pytest.raises(TooManyAttemptsError):
        attempt(users, "anna", address="2001:db8:0:1:ffff::1")
    attempt(users, "anna", address="2001:db8:0:2::1")


def test_an_ipv4_address_written_as_ipv6_is_the_same_address(users):
    for number in range(BY_ADDRESS.free):
        attempt(users, f"name{number}", address="::ffff:10.0.0.1")
    with pytest.raises(TooManyAttemptsError):
        attempt(users, "anna", address="10.0.0.1")


def test_failures_are_forgotten_after_a_day(users):
    for _ in range(BY_USER.free + 1):
        try:
            attempt(users)
        except TooManyAttemptsError:
            break
    attempt(users, now=1000.0 + slowing.REMEMBERED_SECONDS + 1)
    with users.reading() as session:
        assert len(session.scalars(select(LoginFailure)).all()) == 1


def slow_down(database, user="anna", address="10.9.9.9", now=1000.0) -> None:
    """Fail until the next attempt must wait."""
    with pytest.raises(TooManyAttemptsError):
        for _ in range(BY_USER.free + 1):
            attempt(database, user, address, now)


def test_where_a_user_has_logged_in_the_failures_of_others_do_not_slow_them(database, password_hash):
    add(database, password_hash)
    log_in(database, now=1000.0)
    slow_down(database, now=2000.0)
    assert log_in(database, now=2000.0).role == "reader"
    with pytest.raises(TooManyAttemptsError):
        log_in(database, address="10.0.0.2", now=2000.0)  # where they were never before


def test_a_machine_goes_on_sending_while_somebody_tries_passwords_under_its_name(users):
    basic = BasicLogins(users)
    basic.role("berta", PASSWORD, HERE, 1000.0)
    slow_down(users, "berta", now=2000.0)
    assert basic.role("berta", PASSWORD, HERE, 2000.0) == "admin"


def test_where_a_user_has_logged_in_the_failures_from_there_slow_them_all_the_same(users):
    log_in(users)
    slow_down(users, address=HERE)
    with pytest.raises(TooManyAttemptsError):
        log_in(users)


def test_the_owners_login_does_not_let_others_try_sooner(users):
    log_in(users, now=1000.0)
    slow_down(users, now=2000.0)
    log_in(users, now=2000.0)
    with pytest.raises(TooManyAttemptsError):
        attempt(users, address="10.9.9.9", now=2000.0)


def test_where_one_user_has_logged_in_another_is_slowed(users):
    log_in(users, "berta")
    slow_down(users, "anna")
    with pytest.raises(TooManyAttemptsError):
        attempt(users, "anna")


def test_the_addresses_of_a_user_are_few_and_forgotten_in_time(users):
    for number in range(slowing.MOST_PLACES + 5):
        with users.transaction() as session:
            slowing.succeeded(session, "anna", f"10.1.0.{number}", 1000.0 + number)
    with users.reading() as session:
        places = session.scalars(select(LoginPlace.address)).all()
    assert sorted(places) == sorted(f"10.1.0.{number}" for number in range(5, slowing.MOST_PLACES + 5))
    later = 2000.0 + slowing.PLACE_SECONDS
    slow_down(users, now=later)
    with pytest.raises(TooManyAttemptsError):
        attempt(users, address="10.1.0.20", now=later)


def test_many_logins_at_once_from_one_new_address_are_let_in(database, password_hash):
    add(database, password_hash)
    begun: list[bool] = []

    def one() -> None:
        with database.transaction() as session:
            slowing.succeeded(session, "anna", HERE, 1000.0)
        begun.append(True)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(begun) == 6


def test_many_attempts_at_once_gain_nothing(database, password_hash):
    add(database, password_hash)
    looked_at: list[bool] = []

    def one() -> None:
        try:
            attempt(database)
            looked_at.append(True)
        except TooManyAttemptsError:
            looked_at.append(False)

    threads = [threading.Thread(target=one) for _ in range(BY_USER.free + 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (sum(looked_at), len(looked_at)) == (BY_USER.free, BY_USER.free + 5)


def test_an_unknown_user_takes_as_long_as_a_wrong_password(users):
    def seconds(user: str) -> float:
        best = 60.0
        for number in range(5):
            begin = time.process_time()
            fail(users, user, address=f"10.1.{len(user)}.{number}", now=1000.0 * number)
            best = min(best, time.process_time() - begin)
        return best

    fail(users, "warm", now=0.0)
    known, unknown = seconds("anna"), seconds("nobody")
    assert 0.5 < unknown / known < 2


def test_a_machine_logs_in_by_basic_authentication_with_one_hash_for_many_requests(users):
    basic = BasicLogins(users)
    assert basic.role("berta", PASSWORD, HERE, 1000.0) == "admin"
    begin = time.process_time()
    for number in range(20):
        assert basic.role("berta", PASSWORD, HERE, 1001.0 + number) == "admin"
    assert time.process_time() - begin < 1  # an argon2 hash each would take 2 s and more
    with pytest.raises(LoginRefusedError):
        basic.role("berta", PASSWORD + "x", HERE, 1030.0)


def test_a_changed_password_and_a_disabled_user_count_at_once_for_machines(users):
    basic = BasicLogins(users)
    basic.role("berta", PASSWORD, HERE, 1000.0)
    passwords.change_password(users, "berta", "some other words")
    with pytest.raises(LoginRefusedError):
        basic.role("berta", PASSWORD, HERE, 1001.0)
    basic.role("berta", "some other words", HERE, 1002.0)
    passwords.disable(users, "berta")
    with pytest.raises(LoginRefusedError):
        basic.role("berta", "some other words", HERE, 1003.0)


def test_machines_are_slowed_as_people_are(users):
    basic = BasicLogins(users)
    for _ in range(BY_USER.free):
        attempt(users, "berta")
    with pytest.raises(TooManyAttemptsError):
        basic.role("berta", PASSWORD, HERE, 1000.0)


def test_a_sender_that_begins_on_many_connections_at_once_is_let_in_on_all(users):
    basic = BasicLogins(users)
    roles: list[str] = []
    threads = [
        threading.Thread(target=lambda: roles.append(basic.role("berta", PASSWORD, HERE, 1000.0)))
        for _ in range(2 * BY_USER.free)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert roles == ["admin"] * 2 * BY_USER.free
