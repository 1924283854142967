"""An engine's data-plane identity: one ephemeral self-signed certificate and TLS 1.3 contexts.

There is no certificate authority and no name to check. The control plane, which is authenticated by
the node keys, tells each side the SHA-256 of the other's certificate, and a connection is good if
and only if the peer proves possession of the key of exactly that certificate:

- the listener trusts, in a context made for this one connection, only the certificate whose hash it
  was told, requires a client certificate, and compares bytes after the handshake;
- the dialler verifies no chain (there is none) and compares the hash after the handshake, before it
  sends anything. TLS 1.3 has by then checked the server's signature with that certificate's key,
  whatever the verify mode.

The dates in the certificate protect nothing, since the pin dies with the process; they are wide so
that a wrong clock does not keep two engines apart. Session tickets are off: a resumed session would
skip the certificates.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.dataplane.errors import EdgeViolation

FINGERPRINT_SIZE = 32


def fingerprint_of(certificate: bytes) -> bytes:
    """SHA-256 of a DER certificate, 32 bytes."""
    return hashlib.sha256(certificate).digest()


class Identity:
    """A fresh ECDSA P-256 key and certificate, held in memory for the life of the process.

    `certificate` is DER (about 300 bytes), `fingerprint` its SHA-256.
    """

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prime-node data plane")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=366))
            .sign(key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.DER)
        self.fingerprint = fingerprint_of(self.certificate)
        self._password = secrets.token_hex(16)
        self._pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self._password.encode()),
        )
        self._client = self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._client.check_hostname = False
        self._client.verify_mode = ssl.CERT_NONE

    def client_context(self) -> ssl.SSLContext:
        """Context for a dialler; the caller must compare the server's fingerprint itself."""
        return self._client

    def server_context(self, peer_certificate: bytes) -> ssl.SSLContext:
        """Context that completes a handshake with the owner of `peer_certificate` (DER) alone.

        Raises EdgeViolation when those bytes are no certificate.
        """
        context = self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cadata=peer_certificate)
        except (ssl.SSLError, ValueError) as exc:
            raise EdgeViolation("the peer's certificate cannot be parsed") from exc
        return context

    def load_into(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Restrict `context` to TLS 1.3 and give it this certificate and key; returns it.

        `ssl` reads keys from files only: the file is private, lives for a moment, and holds the key
        encrypted under a password that never leaves this process.
        """
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        with tempfile.TemporaryDirectory(prefix="prime-dp-") as folder:
            path = Path(folder) / "identity.pem"
            path.write_bytes(self._pem)
            context.load_cert_chain(path, password=self._password)
        return context
