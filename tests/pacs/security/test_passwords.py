import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from freezeframe.errors import UserError
from freezeframe.pacs.security import audit, logins, passwords
from freezeframe.pacs.tables import AuditEntry, Login, User

GOOD = "three words and more"


def test_a_user_is_added_with_an_argon2id_hash(sqlite):
    passwords.add_user(sqlite, "anna", "reader", GOOD, now=5.0)
    with sqlite.reading() as session:
        user = session.get_one(User, "anna")
    assert user.password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert GOOD not in user.password_hash
    assert passwords.users(sqlite) == [passwords.UserSummary("anna", "reader", False, 5.0)]


def test_what_is_done_to_users_is_audited_without_passwords(sqlite):
    passwords.add_user(sqlite, "anna", "reader", GOOD)
    passwords.change_password(sqlite, "anna", GOOD + "!", by="root")
    passwords.disable(sqlite, "anna")
    passwords.enable(sqlite, "anna")
    with sqlite.reading() as session:
        lines = list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))
    assert [(line.who, line.target, line.detail) for line in lines] == [
        ("command line", "anna", "added as reader"),
        ("root", "anna", "new password"),
        ("command line", "anna", "disabled"),
        ("command line", "anna", "enabled"),
    ]
    assert {line.what for line in lines} == {audit.USERS_CHANGED}


@pytest.mark.parametrize(
    "password",
    [
        "short", "elevenchars", "Password2026!", "passwordpassword", "aaaaaaaaaaaaaaa", "abababababab", "123456789012",
        "qwertyuiop12", "Freezeframe-1", "my name is ANNA ok", "x" * 2000, "qwertyuiopas", "1234567890123456",
    ],
)  # fmt: skip
def test_an_easy_password_is_refused_and_not_repeated(sqlite, password):
    with pytest.raises(UserError) as error:
        passwords.add_user(sqlite, "anna", "reader", password)
    assert password not in str(error.value)
    assert passwords.users(sqlite) == []


@pytest.mark.parametrize(
    "password", ["three words and more", "ñandú ñandú ñandú 7", "kj2 9fh q0s!", "密码密码一二三四五六七八"]
)
def test_which_characters_a_password_has_is_free(password):
    passwords.check_password("anna", password)


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "anna\n", "<b>", ".x"])
def test_a_name_that_can_be_none_is_refused(sqlite, name):
    with pytest.raises(UserError, match="can't be a user's name"):
        passwords.add_user(sqlite, name, "reader", GOOD)


def test_a_role_that_is_not_there_is_refused_with_a_suggestion(sqlite):
    with pytest.raises(UserError, match="did you mean 'reader'"):
        passwords.add_user(sqlite, "anna", "raeder", GOOD)


def test_a_name_is_given_once(sqlite):
    passwords.add_user(sqlite, "anna", "reader", GOOD)
    with pytest.raises(UserError, match="already"):
        passwords.add_user(sqlite, "anna", "admin", GOOD)


def test_a_user_that_is_not_there_can_not_be_changed(sqlite):
    for change in (passwords.disable, passwords.enable):
        with pytest.raises(UserError, match="no user anna"):
            change(sqlite, "anna")
    with pytest.raises(UserError, match="no user anna"):
        passwords.change_password(sqlite, "anna", GOOD)


@pytest.mark.parametrize("change", ["password", "disable"])
def test_a_new_password_and_a_disabled_user_end_all_sessions(sqlite, change):
    passwords.add_user(sqlite, "anna", "reader", GOOD)
    opened = logins.log_in(sqlite, "anna", GOOD, "10.0.0.1", 3600, 100.0)
    if change == "password":
        passwords.change_password(sqlite, "anna", GOOD + "!")
    else:
        passwords.disable(sqlite, "anna")
    assert logins.find(sqlite, opened.token, 3600, 101.0) is None
    with sqlite.reading() as session:
        assert session.scalars(select(Login)).all() == []


def test_characters_composed_or_not_are_the_same_password():
    assert passwords.matches("n\u0303andu\u0301 n\u0303andu\u0301", passwords.hash_password("ñandú ñandú"))


@pytest.mark.parametrize("broken", ["", "x", "$argon2id$v=19$m=1$x$y", "plain text"])
def test_a_broken_hash_fits_no_password(broken):
    assert passwords.matches("", broken) is False


def test_a_hash_of_older_parameters_is_renewed_at_login(sqlite):
    passwords.add_user(sqlite, "anna", "reader", GOOD)
    with sqlite.transaction() as session:
        session.get_one(User, "anna").password_hash = PasswordHasher(time_cost=1, memory_cost=1024).hash(GOOD)
    logins.log_in(sqlite, "anna", GOOD, "10.0.0.1", 3600, 100.0)
    with sqlite.reading() as session:
        renewed = session.get_one(User, "anna").password_hash
    assert not passwords.is_outdated(renewed)
    assert passwords.matches(GOOD, renewed)
