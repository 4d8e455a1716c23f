"""Who may associate."""

import pytest

from freezeframe.pacs.configuration import NodeConfiguration, Peer
from freezeframe.pacs.security.peers import Refusal, find_peer

CERTIFICATE, OTHER = "ab" * 32, "cd" * 32


def configured(*peers: dict) -> NodeConfiguration:
    return NodeConfiguration.parse(
        {
            "folder": "node",
            "bundles": [{"path": "b"}],
            "rules": [{"name": "all"}],
            "peers": [{"networks": ["10.1.0.0/16", "fd00::/8"], **peer} for peer in peers],
        },
        "node.yaml",
    )


PACS = {"name": "pacs", "ae_titles": ["PACS", "PACS_SEND"]}
SIGNED = {"name": "signed", "ae_titles": ["PACS"], "certificates": [CERTIFICATE]}


def test_without_peers_everybody_is_refused_and_told_what_to_add():
    refusal = find_peer(configured(), "PACS", "10.1.2.3", None)
    assert isinstance(refusal, Refusal)
    assert "ae_titles: ['PACS'], networks: [10.1.2.3]" in refusal.action


@pytest.mark.parametrize("title", ["PACS", "PACS_SEND", "PACS   "])
def test_a_peer_may_call_from_each_of_its_titles(title):
    found = find_peer(configured(PACS), title, "10.1.2.3", None)
    assert isinstance(found, Peer)
    assert found.name == "pacs"


@pytest.mark.parametrize("title", ["pacs", "PACS2", "", "PAC"])
def test_another_title_is_refused(title):
    assert isinstance(find_peer(configured(PACS), title, "10.1.2.3", None), Refusal)


@pytest.mark.parametrize("address", ["10.1.255.255", "::ffff:10.1.2.3", "fd12::1", "fd12::1%eth0"])
def test_addresses_of_its_networks_fit(address):
    assert isinstance(find_peer(configured(PACS), "PACS", address, None), Peer)


@pytest.mark.parametrize("address", ["10.2.0.1", "::1", "127.0.0.1", "::ffff:10.2.0.1", "no address"])
def test_other_addresses_are_refused(address):
    refusal = find_peer(configured(PACS), "PACS", address, None)
    assert isinstance(refusal, Refusal)
    assert "'pacs'" in refusal.reason
    assert address in refusal.action


def test_a_peer_with_certificates_must_show_one_of_them():
    assert isinstance(find_peer(configured(SIGNED), "PACS", "10.1.2.3", CERTIFICATE), Peer)
    other = find_peer(configured(SIGNED), "PACS", "10.1.2.3", OTHER)
    assert isinstance(other, Refusal)
    assert OTHER in other.action
    none = find_peer(configured(SIGNED), "PACS", "10.1.2.3", None)
    assert isinstance(none, Refusal)
    assert "no certificate" in none.reason


def test_two_peers_may_share_a_title_and_are_told_apart_by_address():
    elsewhere = {"name": "annex", "ae_titles": ["PACS"], "networks": ["10.9.0.0/16"]}
    found = find_peer(configured(PACS, elsewhere), "PACS", "10.9.0.1", None)
    assert isinstance(found, Peer)
    assert found.name == "annex"
