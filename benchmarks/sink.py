"""An S3 on loopback that reads what it is sent and throws it away: `python -m benchmarks.sink`.

The stub inside a process never sees what botocore does with a body on its way: the checksum, the
chunks around it, TLS. So it speaks TLS, as S3 does: over plain HTTP botocore signs the body, too,
and sends its checksum in another way.
"""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOST: Final = "127.0.0.1"
_DAY = timedelta(days=1)
_CHUNK = memoryview(bytearray(1 << 20))


class Sink(BaseHTTPRequestHandler):
    """Has no object, and takes each that it is given."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say that there is no such object, or nothing to list."""
        if "list-type=2" in self.path:
            self._answer(200, b"<ListBucketResult></ListBucketResult>")
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_PUT(self) -> None:
        """Read an object."""
        if self.headers["Transfer-Encoding"] == "chunked":  # botocore's way, if it adds a checksum
            while size := int(self.rfile.readline(), 16):
                self._discard(size + len(b"\r\n"))
            self.rfile.readline()
        else:
            self._discard(int(self.headers["Content-Length"]))
        self._answer(200, b"")

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _discard(self, size: int) -> None:
        while size and (read := self.rfile.readinto(_CHUNK[: min(size, len(_CHUNK))])):
            size -= read

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"an etag"')
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def sink() -> Iterator[Mapping[str, str]]:
    """Start a sink in a process of its own; yield the variables by which clients find it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "certificate.pem"
        file.write_bytes(_certificate())
        command = [sys.executable, "-m", "benchmarks.sink", str(file)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout
            port = int(process.stdout.readline())
            yield {"AWS_ENDPOINT_URL": f"https://{HOST}:{port}", "AWS_CA_BUNDLE": str(file)}


def _certificate() -> bytes:
    """Return a key and a certificate of this host, which signs itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name.from_rfc4514_string("CN=sink")
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - _DAY).not_valid_after(now + _DAY)
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def main(certificate: str) -> None:
    """Serve on a free port, which is printed, until the input ends or its starter dies."""
    server = ThreadingHTTPServer((HOST, 0), Sink)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
