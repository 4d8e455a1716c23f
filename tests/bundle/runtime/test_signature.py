"""Signatures in minisign's format."""

import hashlib
import os
import stat

import pytest

from bundle.making import make_bundle
from freezeframe.bundle.runtime.folder import open_bundle, sign
from freezeframe.bundle.runtime.seal import SIGNATURE, pack
from freezeframe.bundle.runtime.signature import check_signature, make_keys
from freezeframe.errors import UserError

# Made by the minisign program (0.8), of its documentation and of the crate minisign-verify.
MINISIGN_KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
MINISIGN_SIGNATURE = b"""untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
"""


@pytest.fixture
def keys(tmp_path):
    return make_keys(tmp_path / "keys")


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def signed(bundle, keys):
    sign(bundle, keys[0])
    return bundle


def test_a_signature_of_the_minisign_program_is_accepted_for_its_content_only():
    check_signature(b"test", MINISIGN_SIGNATURE, MINISIGN_KEY, "test")
    with pytest.raises(UserError, match="does not belong to it"):
        check_signature(b"Test", MINISIGN_SIGNATURE, MINISIGN_KEY, "test")


def test_the_comment_that_is_signed_may_not_be_changed():
    changed = MINISIGN_SIGNATURE.replace(b"file:test", b"file:best")
    with pytest.raises(UserError, match="does not belong to it"):
        check_signature(b"test", changed, MINISIGN_KEY, "test")


def test_a_signed_bundle_opens_with_its_key_as_file_and_as_text(signed, keys):
    text = keys[1].read_text().split("\n")[1]
    assert open_bundle(signed, keys[1]).signed
    assert open_bundle(signed, str(keys[1])).signed
    assert open_bundle(signed, text).signed


def test_a_signature_that_nobody_checked_is_no_proof(signed):
    opened = open_bundle(signed)
    assert opened.carries_signature
    assert not opened.signed


def test_the_signed_comment_holds_name_and_identity(signed):
    identity = hashlib.sha256((signed / "checksums.txt").read_bytes()).hexdigest()
    assert f"trusted comment: freezeframe bundle small sha256:{identity}" in (signed / SIGNATURE).read_text()


def test_a_name_with_accents_is_signed(tmp_path, keys):
    bundle = make_bundle(tmp_path / "tórax", changes={"name": "tórax pediátrico"})
    sign(bundle, keys[0])
    assert open_bundle(bundle, keys[1]).signed


def test_an_unsigned_bundle_is_refused_where_a_key_is_given(bundle, keys):
    with pytest.raises(UserError, match="is not signed"):
        open_bundle(bundle, keys[1])


def test_a_bundle_that_somebody_else_signed_is_refused(signed, tmp_path):
    _, other = make_keys(tmp_path / "other")
    with pytest.raises(UserError, match="signed with another key"):
        open_bundle(signed, other)


def test_the_signature_of_another_bundle_is_refused(signed, keys, tmp_path):
    other = make_bundle(tmp_path / "other", members=1)
    (other / SIGNATURE).write_bytes((signed / SIGNATURE).read_bytes())
    with pytest.raises(UserError, match="does not belong to it"):
        open_bundle(other, keys[1])


@pytest.mark.parametrize("content", [b"", b"\n\n\n\n", b"\xff" * 200, MINISIGN_SIGNATURE[:-20]])
def test_a_broken_signature_is_refused(signed, keys, content):
    (signed / SIGNATURE).write_bytes(content)
    with pytest.raises(UserError, match=r"signature of .* can't be read"):
        open_bundle(signed, keys[1])


def test_the_zip_of_a_bundle_is_signed_in_place(bundle, keys, tmp_path):
    packed = pack(bundle, tmp_path / "small.ffb")
    before = open_bundle(packed)
    assert sign(packed, keys[0]).sha256 == before.sha256
    assert open_bundle(packed, keys[1]).signed
    sign(bundle, keys[0])
    assert pack(bundle, tmp_path / "again.ffb").read_bytes() == packed.read_bytes()


def test_a_bundle_that_was_changed_is_not_signed(bundle, keys):
    (bundle / "card.md").write_text("other")
    with pytest.raises(UserError, match=r"card\.md is changed"):
        sign(bundle, keys[0])


def test_only_the_owner_may_read_the_secret_key(keys):
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(keys[1].stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.mark.parametrize("there", ["bundle.key", "bundle.pub"])
def test_keys_are_never_overwritten(tmp_path, there):
    (tmp_path / there).write_text("precious")
    with pytest.raises(UserError, match="is there already"):
        make_keys(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_a_password_protects_the_key(bundle, tmp_path):
    secret, public = make_keys(tmp_path / "keys", "correct horse")
    for wrong in ("", "wrong"):
        with pytest.raises(UserError, match="password"):
            sign(bundle, secret, wrong)
    sign(bundle, secret, "correct horse")
    assert open_bundle(bundle, public).signed


@pytest.mark.parametrize("content", [b"", b"text", b"untrusted comment: x\nRWQ=\n", b"\xff\n\xff\n"])
def test_what_is_no_key_is_refused_by_name(signed, tmp_path, content):
    path = tmp_path / "no.key"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"no\.key is no public key"):
        open_bundle(signed, path)
    with pytest.raises(UserError, match=r"Nothing can be signed with .*no\.key"):
        sign(signed, path)


def test_a_key_that_is_not_there_is_named(signed):
    with pytest.raises(UserError, match=r"nothing\.pub can't be read"):
        open_bundle(signed, "nothing.pub")


def test_the_secret_key_is_no_public_key(signed, keys):
    with pytest.raises(UserError, match="not the secret key"):
        open_bundle(signed, keys[0])
