"""Certificates for tests, and the files that name them."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificates:
    """An authority, with its certificate at ``authority_path``."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.authority = trustme.CA()
        self._directory = directory
        self.authority_path = directory / f"{name}.pem"
        self.authority.cert_pem.write_to_path(str(self.authority_path))

    def issue(self, *names: str, file: str = "server") -> tuple[Path, Path]:
        """Write a certificate for ``names`` and its key; return both paths. Called again, it replaces them."""
        issued = self.authority.issue_cert(*names)
        cert, key = self._directory / f"{file}.pem", self._directory / f"{file}.key"
        issued.private_key_pem.write_to_path(str(key))
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return cert, key

    def client(self) -> ssl.SSLContext:
        """Make the context of a client that trusts this authority only."""
        return ssl.create_default_context(cafile=str(self.authority_path))
