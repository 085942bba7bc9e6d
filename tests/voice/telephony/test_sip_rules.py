"""What SIP's parts do by themselves: settings, offers, packets and numbers, without a process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiosipua import SipMessage, SipRequest

from config.env import ConfigurationError
from tests.voice.telephony.test_keys import pause, tone
from voice.telephony import opus
from voice.telephony.arrivals import Arrivals
from voice.telephony.g711 import PCMA, PCMU
from voice.telephony.legs import Event, Key, Sound
from voice.telephony.pieces import OpusPieces, PcmPieces
from voice.telephony.sip.answering import caller_of, numbers_of
from voice.telephony.sip.codecs import G711, Codec, Opus
from voice.telephony.sip.door import Door
from voice.telephony.sip.media import NoCommonSound, read_offer, write_answer, write_offer
from voice.telephony.sip.options import SipOptions
from voice.telephony.sip.rtp import HEADER, RtpLine
from voice.telephony.sip.trunks import Trunk
from voice.telephony.transcoding import OpusVoice

PEER = ("127.0.0.1", 4000)
KEYS = 96


def offer(*lines: str, address: str = "192.0.2.1", types: str = "8 0 96") -> str:
    head = ("v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", f"c=IN IP4 {address}", "t=0 0", f"m=audio 4000 RTP/AVP {types}")
    return "\r\n".join([*head, "a=rtpmap:96 telephone-event/8000", *lines, ""])


def test_the_first_law_that_is_offered_is_spoken_and_keys_keep_their_number() -> None:
    media = read_offer(offer("a=ptime:30"))
    assert (media.codec, media.keys_type, media.address, media.is_held) == (G711(PCMA), 96, ("192.0.2.1", 4000), False)
    answer = write_answer(media, host="203.0.113.10", port=16384, session=1, version=3)
    assert "m=audio 16384 RTP/AVP 8 96" in answer and "a=rtpmap:96 telephone-event/8000" in answer
    assert "c=IN IP4 203.0.113.10" in answer and "o=- 1 3 IN" in answer and "a=ptime:20" in answer
    assert read_offer(offer(), spoken="PCMU").codec == G711(PCMU)


def test_an_offer_of_ours_has_all_that_is_spoken_and_later_what_was_agreed() -> None:
    ours = {"host": "203.0.113.10", "port": 16384, "session": 1, "version": 1}
    first = read_offer(write_offer(**ours))
    assert (first.codec.name, first.keys_clock_hz) == ("opus", 48_000)
    assert read_offer(write_offer(**ours), spoken="PCMA").codec.name == "PCMA"
    again = write_offer(**ours, spoken=first.codec)
    assert "PCMU" not in again and "a=fmtp:111 maxplaybackrate" in again and read_offer(again).codec == first.codec


@pytest.mark.parametrize(
    ("lines", "address", "answered"),
    [
        (("a=sendonly",), "192.0.2.1", "a=recvonly"),
        (("a=inactive",), "192.0.2.1", "a=inactive"),
        ((), "0.0.0.0", "a=sendrecv"),  # noqa: S104  (how old telephones hold)
    ],
)
def test_an_offer_that_holds_the_call_is_understood(lines: tuple[str, ...], address: str, answered: str) -> None:
    media = read_offer(offer(*lines, address=address))
    assert media.is_held and not media.hears
    assert answered in write_answer(media, host="203.0.113.10", port=16384, session=1, version=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        offer(types="9 18"),
        offer(address="example.com"),
        offer(address="239.1.1.1"),
        "v=x",
        "m=audio y z",
    ],
)
def test_an_offer_without_sound_for_us_is_refused(text: str) -> None:
    with pytest.raises(NoCommonSound):
        read_offer(text)


OPUS = ("a=rtpmap:111 opus/48000/2", "a=rtpmap:97 telephone-event/48000")


def test_opus_goes_before_what_is_offered_before_it_and_keys_share_its_clock() -> None:
    media = read_offer(offer(*OPUS, "a=fmtp:111 useinbandfec=1; maxaveragebitrate=28000", types="0 96 111 97"))
    assert (media.codec, media.keys_type) == (Opus(111), 97)
    answer = write_answer(media, host="203.0.113.10", port=16384, session=1, version=1)
    assert "m=audio 16384 RTP/AVP 111 97\r\n" in answer and "a=rtpmap:97 telephone-event/48000\r\n" in answer
    assert "a=rtpmap:111 opus/48000/2\r\n" in answer and "a=fmtp:111 maxplaybackrate=24000" in answer
    assert "a=rtcp-mux" not in answer
    assert read_offer(offer(*OPUS, types="111 0 96")).keys_type == 96  # another clock is better than none


@pytest.mark.parametrize(
    ("lines", "types"),
    [
        (OPUS, "0 96"),
        (("a=rtpmap:111 opus/48000",), "111 0"),
        (("a=rtpmap:111 opus/16000/2",), "111 0"),
        (("a=rtpmap:9 opus/48000/2",), "9 0"),
        ((*OPUS, "a=fmtp:111 stereo=0;maxaveragebitrate=12000"), "111 0"),
        ((*OPUS, "a=maxptime:20"), "111 0"),
        ((*OPUS, "a=fmtp:111 maxaveragebitrate=" + "0" * 5_000 + "1"), "111 0"),
    ],
)
def test_opus_that_may_not_be_as_engines_write_it_is_left_for_g711(lines: tuple[str, ...], types: str) -> None:
    assert read_offer(offer(*lines, types=types)).codec == G711(PCMU)


def test_a_call_keeps_its_codec_under_whatever_number_it_is_offered_again() -> None:
    again = offer("a=rtpmap:120 opus/48000/2", types="0 120")
    assert read_offer(again, spoken="opus").codec == Opus(120)
    assert read_offer(again, spoken="PCMU").codec == G711(PCMU)
    with pytest.raises(NoCommonSound, match="opus is not offered again"):
        read_offer(offer(types="0"), spoken="opus")


@pytest.mark.parametrize(
    ("lines", "control"),
    [
        ((), ("192.0.2.1", 4001)),
        (("a=rtcp:4567",), ("192.0.2.1", 4567)),
        (("a=rtcp:4567 IN IP4 192.0.2.9",), ("192.0.2.9", 4567)),
        (("a=rtcp:4567 IN IP6 ::1",), ("192.0.2.1", 4567)),
        (("a=rtcp:nonsense",), ("192.0.2.1", 4001)),
        (("a=rtcp:" + "0" * 4_999 + "7",), ("192.0.2.1", 4001)),  # more digits than an integer is read from
        (("a=rtcp:4567", "a=rtcp-mux"), None),
    ],
)
def test_where_rtcp_goes_is_read_of_the_offer(lines: tuple[str, ...], control: tuple[str, int] | None) -> None:
    media = read_offer(offer(*lines))
    assert media.control == control
    answer = write_answer(media, host="203.0.113.10", port=16384, session=1, version=1)
    assert ("a=rtcp-mux" in answer) is (control is None)


class Line(RtpLine):
    """A line without a socket; `events` is what came of it."""

    def __init__(self, codec: Codec = G711(PCMU), keys_type: int | None = KEYS) -> None:  # noqa: B008  (frozen)
        self.events: list[Event] = []
        super().__init__(codec=codec, keys_type=keys_type, hear=self.events.append)
        self.connect(PEER)

    def receive(self, sequence: int, timestamp: int, payload: bytes, *, payload_type: int = 0, source: int = 1) -> None:
        header = HEADER.pack(0x80, payload_type, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, source)
        self.datagram_received(header + payload, PEER)

    @property
    def sounds(self) -> list[Sound]:
        return [event for event in self.events if isinstance(event, Sound)]

    @property
    def digits(self) -> str:
        return "".join(event.digit for event in self.events if isinstance(event, Key))


def test_packets_are_counted_on_where_their_numbers_wrap_and_where_another_source_takes_over() -> None:
    line = Line()
    for at in range(4):
        line.receive(65_534 + at, 0xFFFFFFFF - 200 + 160 * at, PCMU.silence)
    for at in range(2):
        line.receive(9 + at, 77 + 160 * at, PCMU.silence, source=2)
    assert [sound.sequence for sound in line.sounds] == list(range(6))
    assert [sound.position for sound in line.sounds] == [160 * at for at in range(6)]


def test_a_key_is_taken_once_and_its_packets_are_no_losses() -> None:
    line, arrivals = Line(), Arrivals(PcmPieces())
    line.receive(1, 0, PCMU.silence)
    for at in range(5):  # a key has one time, and a longer duration with each packet; the end comes three times
        line.receive(2 + at, 160, bytes([11, 0x80 if at > 1 else 0, at, 0]), payload_type=KEYS)
    line.receive(7, 1120, bytes([1, 0x80, 0, 160]), payload_type=KEYS)
    line.receive(8, 1280, PCMU.silence)
    assert line.digits == "#1"
    for sound in line.sounds:
        arrivals.push(sound.position, sound.piece, sound.at, sequence=sound.sequence)
    assert (arrivals.received, arrivals.lost, arrivals.late) == (8, 0, 0)


def test_packets_of_opus_are_placed_by_their_clock_and_what_is_none_is_let_go() -> None:
    line, arrivals = Line(Opus(111)), Arrivals(OpusPieces())
    long, short = bytes([9 << 3 | 1]) + b"abcd", bytes([30 << 3]) + b"ab"
    for sequence, ticks, payload in (
        (0, 0, long),
        (1, 1920, short),
        (2, 2400, b""),
        (3, 2880, b"\xff\x00"),
        (4, 3360, short),
    ):
        line.receive(65_535 + sequence, 0xFFFFFF00 + ticks, payload, payload_type=111)
    assert [(sound.sequence, sound.position) for sound in line.sounds] == [
        (0, 0),
        (1, 320),
        (2, 400),
        (3, 480),
        (4, 560),
    ]
    assert [sound.piece and len(sound.piece) for sound in line.sounds] == [320, 80, None, None, 80]
    passed = [
        frame
        for sound in line.sounds
        for frame in arrivals.push(sound.position, sound.piece, sound.at, sequence=sound.sequence)
    ]
    assert [len(frame) for frame in passed] == [320, 80] and arrivals.lost == 0
    line.is_deaf = True
    line.receive(65_540, 0xFFFFFF00 + 3840, long, payload_type=111)
    assert line.sounds[-1].piece == opus.silence(320)


def test_tones_are_listened_for_only_where_keys_come_no_other_way() -> None:
    sound = np.concatenate([pause(40), tone("9", 80), pause(80)])
    coded = [PCMU.encode(sound[at : at + 160]) for at in range(0, len(sound), 160)]
    for keys_type, digits in ((KEYS, ""), (None, "9")):
        line = Line(keys_type=keys_type)
        for number, payload in enumerate(coded):
            line.receive(number, 160 * number, payload)
        assert line.digits == digits
    voice, line = OpusVoice(), Line(Opus(111), keys_type=None)
    for number in range(0, len(coded)):
        frame = sound[160 * number : 160 * number + 160]
        line.receive(number, 960 * number, voice.encode(frame), payload_type=111)
    assert line.digits == "9"


def test_a_held_line_gives_silence_for_music_and_no_keys() -> None:
    line = Line()
    line.is_deaf = True
    line.receive(1, 0, PCMU.encode(np.full(160, 0.5, np.float32)))
    line.receive(2, 160, bytes([1, 0, 0, 0]), payload_type=KEYS)
    assert not line.sounds[0].piece.any() and line.digits == ""


def test_what_is_no_packet_of_the_peers_is_let_go() -> None:
    line = Line()
    good = HEADER.pack(0x80, 0, 1, 0, 1) + PCMU.silence
    line.datagram_received(good, ("127.0.0.9", 4000))
    for data in (b"", b"x" * 12, good[:11], b"\x00" + good[1:], b"\x90" + good[1:13], b"\xa0" + good[1:-1] + b"\xff"):
        line.datagram_received(data, PEER)
    line.receive(1, 0, b"", payload_type=111)
    assert line.events == []
    line.datagram_received(b"\xa0" + good[1:-2] + b"\x00\x02", PEER)  # two bytes of padding
    assert len(line.sounds[0].piece) == 158


def request(uri: str, caller: str = "<sip:+12125550177@192.0.2.1>;tag=1", to: str = "<sip:x@y>") -> SipRequest:
    message = SipMessage.parse(f"INVITE {uri} SIP/2.0\r\nFrom: {caller}\r\nTo: {to}\r\n\r\n")
    assert isinstance(message, SipRequest)
    return message


@pytest.mark.parametrize(
    ("uri", "to", "numbers"),
    [
        ("sip:+14155550142@203.0.113.10", "<sip:+14155550142@x>", ["+14155550142"]),
        ("sip:0014155550142@203.0.113.10;user=phone", "<sip:x@y>", ["+14155550142"]),
        ("sip:warmline@203.0.113.10", '"Salon" <sip:14155550142@x>', ["+14155550142"]),
        ("sip:203.0.113.10", "<sip:x@y>", []),
        ("sip:+1'; DROP TABLE@x", "<sip:x@y>", []),
    ],
)
def test_the_number_dialled_is_found_where_trunks_write_it(uri: str, to: str, numbers: list[str]) -> None:
    assert numbers_of(request(uri, to=to)) == numbers


@pytest.mark.parametrize(
    ("caller", "known_as"),
    [
        ("<sip:+12125550177@192.0.2.1>;tag=1", "+12125550177"),
        ('"Dora" <sip:dora@pbx.example>;tag=1', "sip:dora@pbx.example"),
        ("<sip:anonymous@anonymous.invalid>;tag=1", ""),
    ],
)
def test_a_caller_is_known_by_number_or_address(caller: str, known_as: str) -> None:
    assert caller_of(request("sip:x@y", caller)) == known_as


@pytest.fixture
def settings_of_sip(monkeypatch: pytest.MonkeyPatch) -> Any:
    def read(**values: str) -> SipOptions:
        for name, value in values.items():
            monkeypatch.setenv(f"SIP_{name}", value)
        return SipOptions.from_environment()

    return read


def test_peers_are_found_by_their_networks(settings_of_sip: Any) -> None:
    door = Door(settings_of_sip(ALLOWED_PEERS="192.0.2.7, pbx@198.51.100.0/24", PASSWORDS="pbx:secret"))
    trunk, pbx = door.find("192.0.2.7"), door.find("198.51.100.200")
    assert trunk is not None and not trunk.proves_itself
    assert pbx is not None and pbx.proves_itself
    assert door.find("192.0.2.8") is None


def test_a_peer_that_sends_too_much_is_not_listened_to(settings_of_sip: Any) -> None:
    peer = Door(settings_of_sip(ALLOWED_PEERS="192.0.2.7", MESSAGES_PER_SECOND="10")).find("192.0.2.7")
    assert peer is not None
    assert 20 <= sum(peer.may_send() for _ in range(1000)) < 30


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"HOST": "0.0.0.0"}, "SIP_PUBLIC_ADDRESS must be the address at which peers reach"),  # noqa: S104
        ({"HOST": "example.com"}, "SIP_HOST must be an IPv4 address"),
        ({"RTP_PORTS": "16384"}, "SIP_RTP_PORTS must be two ports"),
        ({"PASSWORDS": "secret"}, "must be pairs like pbx:secret"),
        ({"ALLOWED_PEERS": "trunk.example.com"}, "must be addresses, networks"),
        ({"REGISTER": "pbx.example.com"}, "SIP_REGISTER must be like"),
        ({"REGISTER": "sip:pbx@pbx.example.com"}, "names pbx, who has no password"),
        ({"REGISTER": "sip:pbx.example.com"}, "SIP_REGISTER must name a user"),
        ({"TRUNK": "pbx.example.com"}, "SIP_TRUNK must be like"),
        ({"TRUNK": "sips:pbx.example.com;transport=tcp"}, "SIP_TRUNK has sips, which goes over TLS"),
        ({"ALLOWED_PEERS": "pbx@192.0.2.7"}, "names pbx, which has no password"),
    ],
)
def test_a_setting_that_is_not_of_its_form_is_named(
    settings_of_sip: Any, values: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        options = settings_of_sip(**values)
        Door(options)
        Trunk.registrars(options)
        Trunk.for_calls(options)
