"""Who may associate: closed by default, and what to add for somebody who was refused."""

import ipaddress
from dataclasses import dataclass

from freezeframe.pacs.configuration import NodeConfiguration, Peer


@dataclass(frozen=True)
class Refusal:
    """Why nobody in the configuration fits.

    Attributes
    ----------
    reason : str
        For the log and the audit trail; AE titles and addresses are in it, patient data are not.
    action : str
        What to add to `peers` if the caller belongs there.
    """

    reason: str
    action: str


def find_peer(
    configuration: NodeConfiguration, calling_ae: str, address: str, certificate_sha256: str | None
) -> Peer | Refusal:
    """Find the peer that a caller is: one of its AE titles, of its networks and of its certificates must fit.

    Parameters
    ----------
    configuration : NodeConfiguration
        With the peers; where it has none, everybody is refused.
    calling_ae : str
        Calling AE title; its padding does not count, its case does (PS3.5, section 6.2).
    address : str
        IP address that the connection came from.
    certificate_sha256 : str or None
        Fingerprint of the client's certificate in hexadecimal; None where there is none, or no TLS.

    Examples
    --------
    >>> node = {"folder": "node", "bundles": [{"path": "b"}], "rules": [{"name": "all"}]}
    >>> peers = [{"name": "pacs", "ae_titles": ["PACS"], "networks": ["10.1.0.0/16"]}]
    >>> configuration = NodeConfiguration.parse({**node, "peers": peers}, "node.yaml")
    >>> find_peer(configuration, "PACS", "10.1.2.3", None).name
    'pacs'
    >>> find_peer(configuration, "PACS", "10.2.2.3", None).reason
    "The address of peer 'pacs' does not fit."
    """
    title = calling_ae.strip()
    entry = f"ae_titles: [{title!r}], networks: [{address}]"
    named = [peer for peer in configuration.peers if title in peer.ae_titles]
    if not named:
        return Refusal(
            "No peer has this AE title.", f"If it belongs here, add to peers: {{name: ..., {entry}}}"
        )
    near = [peer for peer in named if _is_in(address, peer.networks)]
    names = ", ".join(f"'{peer.name}'" for peer in named)
    if not near:
        return Refusal(
            f"The address of peer {names} does not fit.",
            f"If it calls from there, add {address} to the peer's networks.",
        )
    for peer in near:
        if not peer.certificates or certificate_sha256 in peer.certificates:
            return peer
    if certificate_sha256 is None:
        return Refusal(f"Peer {names} showed no certificate.", "Have it call by TLS, with its certificate.")
    return Refusal(
        f"The certificate of peer {names} does not fit.",
        f"If it has a new one, add {certificate_sha256} to the peer's certificates.",
    )


def is_of_a_peer(configuration: NodeConfiguration, address: str) -> bool:
    """Tell whether any peer may call from an address; who else calls will be refused, whatever it says."""
    return any(_is_in(address, peer.networks) for peer in configuration.peers)


def _is_in(address: str, networks: tuple[str, ...]) -> bool:
    try:
        # An IPv4 caller of a socket that also takes IPv6 has an address such as ::ffff:10.1.2.3.
        found = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError:
        return False
