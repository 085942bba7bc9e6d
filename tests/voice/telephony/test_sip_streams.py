"""SIP over TCP and TLS: calls, registering and hand-overs on connections, and what is not put up with on them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tenants.models import Tenant
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import running, wait_until
from tests.voice.telephony.legs import finished
from tests.voice.telephony.sip_peers import (
    CROWD,
    NUMBER,
    Answers,
    PlainPeer,
    SipTelephony,
)
from tests.voice.telephony.stream_peers import Certificate, StreamPeer
from voice.telephony.sip import streams
from voice.telephony.sip.door import Door
from voice.telephony.sip.framing import LONGEST_MESSAGE_BYTES, MOST_WAITING_BYTES, PING, PONG, BadStream, Framer
from voice.telephony.sip.hops import Hop, Transport
from voice.telephony.sip.options import SipOptions

MOST = 16


@pytest.fixture(scope="module")
def sip(
    gateway: GatewayProcess, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SipTelephony]:
    telephony = SipTelephony(
        tmp_path_factory.mktemp("sip"),
        gateway_url=gateway.url,
        SIP_MAX_CONNECTIONS=str(MOST),
        **certificate.settings,
    )
    with running(telephony.process):
        yield telephony


@pytest.fixture(params=["TCP", "TLS"])
def dial(request: Any, sip: SipTelephony, certificate: Certificate) -> Callable[..., StreamPeer]:
    """A function that connects, over either."""
    if request.param == "TCP":
        return lambda **more: StreamPeer(sip.sip_port, **more)
    return lambda **more: StreamPeer(sip.sip_port + 1, context=certificate.context, **more)


def test_a_call_stays_on_its_connection_and_names_it(
    dial: Callable[..., StreamPeer], sip: SipTelephony, acme: Tenant, answers: Answers
) -> None:
    answers("hand_over", forwards_to="+14155550199")
    with dial() as peer:
        answer = peer.call()
        transport = peer.transport.lower()
        port = sip.sip_port + (transport == "tls")
        assert answer.header("Contact") == f"<sip:127.0.0.1:{port};transport={transport}>"
        refer = peer.receive(within_seconds=15)
        assert refer.text.startswith("REFER")
        assert refer.header("Via").startswith(f"SIP/2.0/{peer.transport} 127.0.0.1:{port};")
        assert refer.header("Refer-To") == f"<sip:+14155550199@127.0.0.1:{peer.port};transport={transport}>"
        with pytest.raises(TimeoutError):
            peer.receive(within_seconds=1.2)  # nothing is sent twice on a stream
        peer.reply(refer, "603 Decline")
        bye = peer.receive()
        assert bye.text.startswith("BYE")
        peer.reply(bye, "200 OK")
    finished(acme)


def test_a_peer_proves_itself_over_a_stream(
    dial: Callable[..., StreamPeer], sip: SipTelephony, acme: Tenant, answers: Answers
) -> None:
    with dial(host="127.0.0.2") as peer:
        assert peer.ask("INVITE", body=peer.offer()).status == 401
        with pytest.raises(TimeoutError):
            peer.receive(within_seconds=0.8)


def test_messages_are_found_in_pieces_and_several_at_once(dial: Callable[..., StreamPeer]) -> None:
    with dial() as peer:
        message = peer.write("OPTIONS")
        for at in range(0, len(message), 7):
            peer.send(message[at : at + 7])
        assert peer.final().status == 200
        peer.send(b"\r\n".join([peer.write("OPTIONS"), peer.write("OPTIONS"), b""]))
        assert [peer.final().status, peer.final().status] == [200, 200]


def test_a_keep_alive_is_answered(dial: Callable[..., StreamPeer]) -> None:
    with dial() as peer:
        peer.send(b"\r\n\r\n")
        assert peer.read() == b"\r\n"
        for half in (b"\r\n", b"\r\n"):
            peer.send(half)
            time.sleep(0.2)
        assert peer.read() == b"\r\n"
        assert peer.ask("OPTIONS").status == 200


def test_a_call_goes_on_over_a_new_connection_where_the_old_one_is_gone(
    sip: SipTelephony, acme: Tenant, answers: Answers
) -> None:
    answers("reads_keys")
    with socket.create_server(("127.0.0.1", 0)) as server, StreamPeer(sip.sip_port) as peer:
        peer.port = server.getsockname()[1]  # where it says that it listens
        assert peer.call().status == 200
        peer.socket.close()
        server.settimeout(5)
        peer.socket, _ = server.accept()  # nothing was heard for so long that it is hung up on
        bye = peer.receive()
        assert bye.text.startswith("BYE")
        peer.reply(bye, "200 OK")
    finished(acme)


def test_a_stranger_is_closed_before_a_word_and_before_tls(sip: SipTelephony, certificate: Certificate) -> None:
    before = sip.count('warmline_sip_dropped_total{reason="stranger"}')
    for port, context in ((sip.sip_port, None), (sip.sip_port + 1, certificate.context)):
        with pytest.raises(OSError), StreamPeer(port, context=context, host="127.0.0.3") as stranger:
            stranger.ask("OPTIONS")
    assert sip.count('warmline_sip_dropped_total{reason="stranger"}') == before + 2


def test_old_tls_is_not_spoken(sip: SipTelephony) -> None:
    for version, is_spoken in (("-tls1_1", False), ("-tls1_2", True)):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{sip.sip_port + 1}", version]
        done = subprocess.run(
            [*command, "-cipher", "DEFAULT@SECLEVEL=0"], input=b"", capture_output=True, timeout=20, check=False
        )
        assert (b"Verify return code" in done.stdout and b"Cipher is (NONE)" not in done.stdout) is is_spoken


@pytest.mark.parametrize(
    "data",
    [
        b"OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n\r\n",
        b"OPTIONS sip:x@y SIP/2.0\r\nContent-Length: 9999999\r\n\r\n",
        b"OPTIONS sip:x@y SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\n",
        b"x" * (LONGEST_MESSAGE_BYTES + 1),
    ],
    ids=["no length", "too long a body", "two lengths", "no end"],
)
def test_a_stream_in_which_messages_cannot_be_found_is_closed(sip: SipTelephony, data: bytes) -> None:
    with StreamPeer(sip.sip_port) as peer:
        peer.send(data)
        with pytest.raises(ConnectionError):
            peer.read()


def test_who_begins_and_does_not_end_is_closed(sip: SipTelephony, certificate: Certificate) -> None:
    with (
        StreamPeer(sip.sip_port) as silent,
        StreamPeer(sip.sip_port) as slow,
        StreamPeer(sip.sip_port) as idle,
        socket.create_connection(("127.0.0.1", sip.sip_port + 1)) as half_open,
    ):
        assert idle.ask("OPTIONS").status == 200
        message = slow.write("OPTIONS")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for at in range(len(message)):
                slow.send(message[at : at + 1])
                time.sleep(0.2)
        assert 8 < time.monotonic() - began < 15
        with pytest.raises(ConnectionError):
            silent.read()
        half_open.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert half_open.recv(1) == b""
        assert idle.ask("OPTIONS").status == 200  # having spoken, it may be silent


def test_one_address_has_its_share_of_connections_and_the_longest_idle_makes_room(sip: SipTelephony) -> None:
    wait_until(lambda: sip.count("warmline_sip_connections") == 0, what="the end of others' connections")
    with contextlib.ExitStack() as all_of_them:
        peers = []
        for _ in range(MOST // 4 + 1):
            peers.append(all_of_them.enter_context(StreamPeer(sip.sip_port)))
            assert peers[-1].ask("OPTIONS").status == 200
        with pytest.raises(ConnectionError):
            peers[0].read()
        assert all(peer.ask("OPTIONS").status == 200 for peer in peers[1:])
        assert sip.count("warmline_sip_connections") <= MOST // 4


def test_a_peer_that_sends_too_much_waits_and_loses_nothing(
    gateway: GatewayProcess, tmp_path: Path, acme: Tenant
) -> None:
    telephony = SipTelephony(tmp_path, gateway_url=gateway.url, SIP_MESSAGES_PER_SECOND="20")
    with running(telephony.process), StreamPeer(telephony.sip_port) as peer:
        began = time.monotonic()
        peer.send(b"".join(peer.write("OPTIONS") for _ in range(80)))
        assert [peer.final(within_seconds=10).status for _ in range(80)] == [200] * 80
        assert 1.5 < time.monotonic() - began < 6


def test_a_sips_address_is_reached_over_tls_only(
    sip: SipTelephony, certificate: Certificate, acme: Tenant, answers: Answers
) -> None:
    answers("reads_keys")
    with StreamPeer(sip.sip_port) as peer:
        peer.scheme = "sips"
        assert peer.ask("INVITE", body=peer.offer()).status == 416
    with StreamPeer(sip.sip_port + 1, context=certificate.context) as peer:
        peer.scheme = "sips"
        assert peer.call().header("Contact") == f"<sips:127.0.0.1:{sip.sip_port + 1}>"
        assert peer.ask("BYE").status == 200
    finished(acme)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_process_registers_over_a_stream_and_is_called_on_it_and_comes_back(
    gateway: GatewayProcess, certificate: Certificate, acme: Tenant, answers: Answers, tmp_path: Path, transport: str
) -> None:
    answers("reads_keys")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        telephony = SipTelephony(
            tmp_path,
            gateway_url=gateway.url,
            SIP_REGISTER=f"sip:pbx@localhost:{port};transport={transport};number={NUMBER}",
            **certificate.settings,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)

        def accept() -> StreamPeer:
            connected, _ = server.accept()
            registrar = StreamPeer.__new__(StreamPeer)
            registrar.__dict__.update(_rest=b"", transport=transport.upper(), their_tag="")
            registrar.socket = context.wrap_socket(connected, server_side=True) if transport == "tls" else connected
            return registrar

        with running(telephony.process):
            for is_again in (False, True):
                registrar = accept()
                asked = registrar.receive()
                listens = telephony.sip_port + (transport == "tls")
                assert asked.text.startswith("REGISTER") and asked.header("Contact") == (
                    f"<sip:{NUMBER}@127.0.0.1:{listens};transport={transport}>"
                )
                registrar.reply(asked, "200 OK", "Expires: 300")
                wait_until(lambda: telephony.count("warmline_sip_registered") == 1, what="the registration")
                if is_again:
                    call_on(registrar)
                registrar.socket.close()
            accept().socket.close()
    finished(acme)


def call_on(registrar: StreamPeer) -> None:
    """Ring on the connection that the process made, and hang up."""
    with PlainPeer(9) as names:
        names.transport, names.port = registrar.transport, 9
        registrar.send(names.write("INVITE", body=names.offer()))
        answer = registrar.final()
        assert answer.status == 200
        names.their_tag = answer.header("To").rpartition("tag=")[2]
        registrar.send(names.write("ACK", sequence=1))
        registrar.send(names.write("BYE", sequence=2))
        assert registrar.final().status == 200


def test_a_registrar_whose_certificate_is_anothers_is_not_spoken_to(
    gateway: GatewayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    other = Certificate.make(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.chain, other.key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        register = f"sips:pbx@localhost:{server.getsockname()[1]};number={NUMBER}"
        telephony = SipTelephony(tmp_path, gateway_url=gateway.url, SIP_REGISTER=register, **certificate.settings)
        with running(telephony.process):
            with pytest.raises(OSError):
                context.wrap_socket(server.accept()[0], server_side=True).recv(1)
            wait_until(lambda: "sip.not_connected" in telephony.log, what="a line of the log")


def test_a_call_follows_its_peer_to_another_connection(sip: SipTelephony, acme: Tenant, answers: Answers) -> None:
    answers("reads_keys")
    with StreamPeer(sip.sip_port) as peer, StreamPeer(sip.sip_port) as other:
        assert peer.call("Session-Expires: 2;refresher=uas").status == 200
        peer.socket.close()
        peer.socket = other.socket
        assert peer.ask("UPDATE").status == 200
        update = peer.receive()
        assert update.text.startswith("UPDATE")
        peer.reply(update, "200 OK")
        assert peer.ask("BYE").status == 200
    finished(acme)


def test_what_was_agreed_over_tls_is_not_changed_in_the_open(
    sip: SipTelephony, certificate: Certificate, acme: Tenant, answers: Answers
) -> None:
    answers("reads_keys")
    with StreamPeer(sip.sip_port + 1, context=certificate.context) as peer, PlainPeer(sip.sip_port) as thief:
        assert peer.call().status == 200
        thief.call_id, thief.tag, thief.their_tag = peer.call_id, peer.tag, peer.their_tag
        for method, body in (("INVITE", thief.offer()), ("BYE", "")):
            thief.send(thief.write(method, body=body, sequence=5))
            assert thief.final().status == 403
        assert peer.ask("BYE").status == 200
    finished(acme)


async def test_a_connection_of_ours_is_kept_alive_and_given_up_where_no_pong_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("LOOK_SECONDS", 0.02), ("PING_SECONDS", 0.1), ("PONG_SECONDS", 0.3)):
        monkeypatch.setattr(streams, name, seconds)
    monkeypatch.setenv("SIP_ALLOWED_PEERS", "127.0.0.1")
    heard: list[bytes] = []
    ours = streams.Streams(
        Door(SipOptions.from_environment()), lambda data, *_: heard.append(data), most=4, certificate=None
    )
    ours.start()
    arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await arrived.put((reader, writer))

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server, asyncio.timeout(10):
        address = "127.0.0.1", server.sockets[0].getsockname()[1]
        hop = Hop(Transport.TCP, address, address)
        ours.send(b"first", hop)  # before there is a connection
        ours.send(b"second", hop)
        reader, writer = await arrived.get()
        assert await reader.readexactly(11) == b"firstsecond"
        for _ in range(3):
            assert await reader.readexactly(4) == b"\r\n\r\n"
            writer.write(b"\r\n")
        await ours.wait_until_lost(hop)  # no more pongs
        assert await reader.read(100) == b"\r\n\r\n"
        writer.close()
        ours.send(b"third", hop)
        reader, writer = await arrived.get()
        assert await reader.readexactly(5) == b"third"
        writer.close()
    await ours.close()
    assert heard == []


def test_a_crowd_on_many_connections_costs_little(sip: SipTelephony, tmp_path: Path) -> None:
    scenario = tmp_path / "crowd.xml"
    scenario.write_text(CROWD)
    before_bytes, dropped = sip.resident_bytes, sip.count("warmline_sip_dropped_total")
    command = ["sipp", f"127.0.0.1:{sip.sip_port}", "-i", "127.0.0.1", "-t", "tn", "-sf", str(scenario)]
    limits = ["-r", "500", "-m", "1500", "-max_socket", "400", "-timeout", "8", "-nostdin"]
    subprocess.run([*command, *limits], cwd=tmp_path, capture_output=True, timeout=30, check=False)
    assert sip.count("warmline_sip_dropped_total") > dropped + 50
    assert sip.resident_bytes - before_bytes < 48 * 1024 * 1024
    assert sip.count("warmline_sip_connections") <= MOST // 4 and sip.health()["calls"] == 0

    def answers_again() -> bool:
        try:
            with StreamPeer(sip.sip_port) as peer:
                return peer.ask("OPTIONS").status == 200
        except OSError:
            return False

    wait_until(answers_again, what="an answer after the crowd")


def test_frames_of_any_cut() -> None:
    message = b"OPTIONS sip:x SIP/2.0\r\nL : 4\r\n\r\nbody"
    framer = Framer()
    taken = []
    for byte in PING + message + PONG + message:
        framer.append(bytes([byte]))
        while (frame := framer.take()) is not None:
            taken.append(frame)
    assert [each for each in taken if each != PONG] == [message, message]
    framer.append(PING + message + PONG)
    assert [framer.take() for _ in range(4)] == [PING, message, PONG, None]
    assert not framer.has_begun
    with pytest.raises(BadStream):
        framer.append(b"x" * (MOST_WAITING_BYTES + 1))
