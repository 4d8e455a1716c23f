"""A real Orthanc with DICOMweb, for as long as somebody tries the node against it.

As root it runs in a network namespace of its own (see `namespace`), otherwise on free ports of this machine, which
it opens on every address: Debian's can't be told otherwise. Then its password and the list of its peers protect it.
"""

import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from freezeframe import files
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.pacs.trial.namespace import LOOPBACK, Namespace, Outside

PROGRAM = Path("/usr/sbin/Orthanc")
WEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
DICOM_PORT, HTTP_PORT = 4242, 8042  # inside a namespace
UNUSED_PORT = 1  # Orthanc wants one of every modality
USER = "tester"
START_SECONDS = 120  # half a second on a quiet machine


@dataclass(frozen=True)
class ServerTls:
    """PEM files of the Orthanc; also of its calls to others."""

    certificate: Path
    key: Path
    authority: Path


class Orthanc:
    """A running Orthanc, and how this side of its namespace reaches it.

    Attributes
    ----------
    ae_title : str
        Called AE title that it insists on; it calls with it, too.
    dicom_port, http_url : int, str
        On this side's 127.0.0.1; they stay the same for as long as it runs without a restart.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], ae_title: str) -> None:
        self.ae_title = ae_title
        self.auth = (USER, settings["RegisteredUsers"][USER])
        self._folder = folder
        self._settings = settings
        self._modalities: dict[str, dict[str, Any]] = {}
        self.start()

    def start(self) -> None:
        """Start it, also again after `stop`, with what it has stored; its ports are new ones then."""
        alone = Namespace.is_possible()
        dicom_port, http_port = (DICOM_PORT, HTTP_PORT) if alone else (_free_port(), _free_port())
        settings = {**self._settings, "DicomPort": dicom_port, "HttpPort": http_port}
        path = self._folder / "orthanc.json"
        files.write_json(path, settings | {"DicomModalities": self._modalities})
        path.chmod(0o600)  # it holds the password
        start = Namespace if alone else Outside
        self._namespace = start([str(PROGRAM), str(path)], self._folder / "orthanc.log")
        self.dicom_port = self._namespace.lead_in(dicom_port)
        self.http_url = f"http://{LOOPBACK}:{self._namespace.lead_in(http_port)}"
        for port in {modality["Port"] for modality in self._modalities.values()} - {UNUSED_PORT}:
            self._namespace.lead_out(port)
        self._wait()

    def stop(self) -> None:
        """Kill it; what it has acknowledged is stored."""
        self._namespace.close()

    @property
    def web_url(self) -> str:
        """Root of its DICOMweb services."""
        return f"{self.http_url}/dicom-web"

    def rest(self, path: str, method: str = "GET", content: Any = None) -> Any:
        """Call its own API, such as ``/instances``; bytes are sent as they are, other content as JSON.

        Returns the parsed JSON, or the bytes where the answer is something else.
        """
        body = content if isinstance(content, bytes) or content is None else json.dumps(content).encode()
        answer = httpx.request(
            method, f"{self.http_url}{path}", content=body, auth=self.auth, timeout=60, trust_env=False
        )
        answer.raise_for_status()
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.json() if is_json else answer.content

    def add_modality(self, ae_title: str, port: int, tls: bool = False, commitment: bool = True) -> None:
        """Let a peer in, under its title, and lead what Orthanc sends to it to this side's 127.0.0.1:`port`.

        With port 0 it only calls.

        ``rest("/modalities/TITLE/store", "POST", [...])`` sends, C-MOVE to TITLE and storage commitment go there, too.
        """
        allowed = ("Echo", "Find", "Get", "Move", "Store")
        modality = {
            "AET": ae_title, "Host": LOOPBACK, "Port": port or UNUSED_PORT, "UseDicomTls": tls,
            "AllowStorageCommitment": commitment, **{f"Allow{kind}": True for kind in allowed},
        }  # fmt: skip
        if port and all(known["Port"] != port for known in self._modalities.values()):
            self._namespace.lead_out(port)
        self._modalities[ae_title] = modality
        self.rest(f"/modalities/{ae_title}", "PUT", modality)

    def instances(self) -> dict[str, str]:
        """Return Orthanc's own id of each SOP instance that it holds, by SOP instance UID."""
        found = self.rest("/instances?expand")
        return {entry["MainDicomTags"]["SOPInstanceUID"]: entry["ID"] for entry in found}

    def studies_with(self, modality: str) -> set[str]:
        """Return the UIDs of the studies that have an object of a modality, such as SR."""
        asked = {"Level": "Study", "Query": {"ModalitiesInStudy": modality}, "Expand": True}
        found = self.rest("/tools/find", "POST", asked)
        return {entry["MainDicomTags"]["StudyInstanceUID"] for entry in found}

    def file(self, sop_instance_uid: str) -> bytes:
        """Return the Part-10 file of an instance as it is stored."""
        return self.rest(f"/instances/{self.instances()[sop_instance_uid]}/file")

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.rest("/system")
            except httpx.TransportError:
                ended = self._namespace.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    log = (self._folder / "orthanc.log").read_text(errors="replace")
                    self._namespace.close()
                    raise FreezeframeError(f"Orthanc did not start:\n{log[-4000:]}") from None
                time.sleep(0.05)
            else:
                return


@contextmanager
def orthanc(
    folder: Path,
    modalities: Mapping[str, int] | None = None,
    tls: ServerTls | None = None,
    commitment: bool = True,
    ae_title: str = "ORTHANC",
) -> Iterator[Orthanc]:
    """Run an Orthanc for the length of a block.

    Parameters
    ----------
    folder : Path
        Of its files; a folder of its own.
    modalities : mapping of str to int
        AE titles that may talk to it, and the port on this side's 127.0.0.1 where each listens (0: it does not).
        `Orthanc.add_modality` adds others later.
    tls : ServerTls, optional
        DICOM over TLS with client certificates, in both directions.
    commitment : bool
        Whether the modalities may ask for storage commitment.
    """
    for file in (PROGRAM, WEB_PLUGIN):
        if not file.exists():
            raise UserError(
                f"Orthanc is not installed: there is no {file}.",
                "Orthanc with its DICOMweb plugin.",
                "On Debian and Ubuntu: apt install orthanc orthanc-dicomweb.",
            )
    home = folder / "orthanc"
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "Name": ae_title,
        "StorageDirectory": str(home / "storage"),
        "IndexDirectory": str(home / "storage"),
        "Plugins": [str(WEB_PLUGIN)],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: secrets.token_urlsafe(12)},
        "DicomAet": ae_title,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "OverwriteInstances": False,
        "StableAge": 1,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "HttpsVerifyPeers": False,
    }
    if tls is not None:
        settings |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(tls.certificate),
            "DicomTlsPrivateKey": str(tls.key),
            "DicomTlsTrustedCertificates": str(tls.authority),
            "DicomTlsRemoteCertificateRequired": True,
        }
    running = Orthanc(home, settings, ae_title)
    try:
        for title, port in (modalities or {}).items():
            running.add_modality(title, port, tls=tls is not None, commitment=commitment)
        yield running
    finally:
        running.stop()


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        return server.getsockname()[1]
