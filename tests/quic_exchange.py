"""A QUIC server and a client of it, in one process on loopback, where aioquic is installed: a program for tests. It is
given a size; says, as JSON, the ports and what either end has sent and received: [bytes, datagrams, bytes, datagrams].
"""

# mypy: ignore-errors

import asyncio
import datetime
import json
import ssl
import sys
import tempfile
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

COUNTS: dict[int, list[int]] = {}


def count(port: int, at: int, data: bytes) -> None:
    """Of a socket, by its port: a datagram more."""
    counts = COUNTS.setdefault(port, [0, 0, 0, 0])
    counts[at] += len(data)
    counts[at + 1] += 1


class Counted:
    """A protocol whose datagrams are counted, both ways."""

    def connection_made(self, transport):
        """There is a socket: what is sent by it passes here."""
        self.port, send = transport.get_extra_info("sockname")[1], transport.sendto

        def sendto(data, to=None):
            count(self.port, 0, data)
            send(data, to)

        transport.sendto = sendto
        super().connection_made(transport)

    def datagram_received(self, data, sender):
        """One has come."""
        count(self.port, 2, data)
        super().datagram_received(data, sender)


class Client(Counted, QuicConnectionProtocol):
    """The one who asks."""


class Server(Counted, QuicServer):
    """The one who answers."""


def certificate(directory: Path) -> tuple[str, str]:
    """Files of a certificate for localhost, and of its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    (directory / "cert").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / "key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return str(directory / "cert"), str(directory / "key")


async def main(size: int) -> None:
    """Send so many bytes, and have them back."""

    async def echo(reader, writer):
        writer.write(await reader.read())
        writer.write_eof()

    def answer(reader, writer):
        tasks.append(asyncio.ensure_future(echo(reader, writer)))

    tasks = []
    with tempfile.TemporaryDirectory() as directory:
        there = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
        there.load_cert_chain(*certificate(Path(directory)))
    loop = asyncio.get_running_loop()
    _, server = await loop.create_datagram_endpoint(
        lambda: Server(configuration=there, create_protocol=QuicConnectionProtocol, stream_handler=answer),
        local_addr=("::1", 4433),
    )
    here = QuicConfiguration(alpn_protocols=["echo"], verify_mode=ssl.CERT_NONE)
    async with connect("::1", 4433, configuration=here, create_protocol=Client) as client:
        reader, writer = await client.create_stream()
        writer.write(bytes(size))
        writer.write_eof()
        assert await reader.read() == bytes(size)
    server.close()
    await asyncio.sleep(0)
    print(json.dumps(COUNTS))


asyncio.run(main(int(sys.argv[1])))
