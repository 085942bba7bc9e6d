"""Packets of Opus between RTP and Ogg: nothing is lost on the way, and what the network lost is made up."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import sphn

from gpu_workers.protocol import SAMPLE_RATE_HZ
from tests.voice.telephony.test_transcoding import burst, place_of_burst
from voice.telephony import opus
from voice.telephony.arrivals import Arrivals
from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, RATE_HZ, Samples
from voice.telephony.listening import OpusEar
from voice.telephony.opus import NotOpus, OggReader, OggWriter, OpusPacket, cut, lost, read_packet, silence
from voice.telephony.pieces import OpusPieces
from voice.telephony.transcoding import OpusVoice, PacketsFromEngine

SILK_20_MS, SILK_60_MS, HYBRID_20_MS, CELT_2_5_MS, CELT_20_MS = (number << 3 for number in (9, 11, 13, 28, 31))


def coded(sound: Samples, rate_hz: int) -> list[OpusPacket]:
    """Return packets of sound, as an engine (24 kHz, 40 ms) or a telephone (48 kHz, 20 ms) writes them."""
    writer, reader = sphn.OpusStreamWriter(rate_hz), OggReader()
    pages = (bytes(writer.append_pcm(sound[at : at + 960])) for at in range(0, len(sound) - 959, 960))
    return [packet for page in pages for packet in reader.read(page)]


def heard(packets: list[OpusPacket]) -> Samples:
    """Return what an engine makes of packets, at 24 kHz."""
    writer, reader = OggWriter(), sphn.OpusStreamReader(SAMPLE_RATE_HZ)
    return np.concatenate([reader.append_bytes(writer.write(packet)) for packet in packets])


def voice(seconds: float, *, rate_hz: int = opus.CLOCK_HZ) -> Samples:
    at = np.arange(int(seconds * rate_hz)) / rate_hz
    hiss = 0.02 * np.random.default_rng(1).standard_normal(len(at))  # else the coder writes frames of 40 ms
    return (0.3 * np.sin(2 * np.pi * 125 * at) + 0.1 * np.sin(2 * np.pi * 250 * at) + hiss).astype(np.float32)


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        (bytes([CELT_20_MS]) + b"abc", 160),
        (bytes([CELT_2_5_MS]) + b"abc", 20),
        (bytes([SILK_60_MS]), 480),
        (bytes([HYBRID_20_MS | 1]) + b"abcd", 320),
        (bytes([HYBRID_20_MS | 2, 1]) + b"abcd", 320),
        (bytes([HYBRID_20_MS | 2, 252, 0]) + bytes(252), 320),
        (bytes([CELT_20_MS | 3, 3]) + b"abcdef", 480),
        (bytes([CELT_20_MS | 3, 0x83, 1, 2]) + b"abcdef", 480),
        (bytes([CELT_20_MS | 3, 0x43, 2]) + b"abcdef\0\0", 480),
        (bytes([CELT_20_MS | 3, 0x41, 255, 0]) + b"a" + bytes(254), 160),
        (bytes([SILK_60_MS | 3, 2]), 960),
    ],
)
def test_how_long_a_packet_sounds_is_read_of_it_and_a_decoder_agrees(data: bytes, samples: int) -> None:
    packet = read_packet(data)
    assert len(packet) == samples
    assert len(OpusEar().hear(packet)) == samples
    assert sum(map(len, cut(packet))) == samples
    assert len(OpusEar().hear(silence(samples))) == samples


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes([CELT_20_MS | 1]) + b"abc",
        bytes([CELT_20_MS | 2]),
        bytes([CELT_20_MS | 2, 252]),
        bytes([CELT_20_MS | 2, 9]) + b"abc",
        bytes([CELT_20_MS | 3]),
        bytes([CELT_20_MS | 3, 0]),
        bytes([CELT_20_MS | 3, 7]) + bytes(14),
        bytes([CELT_20_MS | 3, 2]) + b"abc",
        bytes([CELT_20_MS | 3, 0x82, 9]) + b"abc",
        bytes([CELT_20_MS | 3, 0x41]),
        bytes([CELT_20_MS | 3, 0x41, 255]),
        bytes([CELT_20_MS | 3, 0x41, 9]) + b"abc",
        bytes([CELT_20_MS]) + bytes(1276),
    ],
)
def test_what_a_decoder_would_refuse_is_refused_before(data: bytes) -> None:
    with pytest.raises(NotOpus):
        read_packet(data)


def test_whatever_is_in_a_packet_that_was_read_a_decoder_takes_it() -> None:
    dice = random.Random(7)
    good = coded(voice(0.5), opus.CLOCK_HZ)
    writer, reader = OggWriter(), sphn.OpusStreamReader(SAMPLE_RATE_HZ)
    read = 0
    for number in range(4000):
        data = bytearray(dice.randbytes(dice.randrange(60)) if number % 2 else dice.choice(good).data)
        for _ in range(dice.randrange(8) if data else 0):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            packet = read_packet(bytes(data))
        except NotOpus:
            continue
        read += 1
        assert len(reader.append_bytes(writer.write(packet))) == 3 * len(packet)
    assert read > 2000


def test_a_long_packet_is_cut_and_sounds_the_same() -> None:
    packets = coded(voice(1, rate_hz=SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    assert {len(packet) for packet in packets} == {2 * FRAME_SAMPLES}
    pieces = [piece for packet in packets for piece in cut(packet)]
    assert {len(piece) for piece in pieces} == {FRAME_SAMPLES}
    assert np.array_equal(heard(pieces), heard(packets))


def test_frames_of_10_ms_and_long_ones_are_cut_as_far_as_they_can_be() -> None:
    frames = [b"a" * 3, b"b" * 300, b"c", b"d" * 2]
    lengths = bytes([3, 252, 12, 1])
    packet = read_packet(bytes([30 << 3 | 3, 0x84]) + lengths + b"".join(frames))
    first, second = cut(packet)
    assert first.data == bytes([30 << 3 | 3, 0x82, 3]) + frames[0] + frames[1]
    assert second.data == bytes([30 << 3 | 3, 0x82, 1]) + frames[2] + frames[3]
    assert cut(read_packet(bytes([SILK_60_MS]) + b"abc")) == [read_packet(bytes([SILK_60_MS]) + b"abc")]


def test_a_stream_of_ogg_is_read_however_it_is_cut_and_over_several_streams() -> None:
    packets = [OpusPacket(bytes([CELT_20_MS]) + bytes([at]) * (100 * at), 160) for at in range(12)]
    stream = b""
    for _ in range(2):  # another worker takes over
        writer = OggWriter()
        stream += b"".join(writer.write(packet) for packet in packets)
    for size in (1, 7, 300, len(stream)):
        reader = OggReader()
        read = [packet for at in range(0, len(stream), size) for packet in reader.read(stream[at : at + size])]
        assert read == packets * 2
    with pytest.raises(NotOpus):
        OggReader().read(b"OggX")
    with pytest.raises(ValueError, match="was not Ogg Opus"):
        PacketsFromEngine().decode(b"nonsense")


def test_both_ways_add_nothing_to_what_coders_hold_back() -> None:
    sound = burst(SAMPLE_RATE_HZ)
    writer, from_engine = sphn.OpusStreamWriter(SAMPLE_RATE_HZ), PacketsFromEngine()
    packets = [
        piece
        for at in range(0, len(sound), 960)
        for piece in from_engine.decode(bytes(writer.append_pcm(sound[at : at + 960])))
    ]
    assert 0 < (place_of_burst(heard(packets), SAMPLE_RATE_HZ) - 1) * 1000 < 20


def loudness(sound: Samples) -> list[float]:
    """Return the root mean square of each 20 ms."""
    frames = sound.reshape(-1, SAMPLE_RATE_HZ // 50)
    return [float(np.sqrt((frame**2).mean())) for frame in frames]


class Network:
    """Brings packets to Arrivals, each by default when it is due."""

    def __init__(self) -> None:
        self.arrivals = Arrivals(OpusPieces())
        self.passed: list[OpusPacket] = []

    def bring(self, number: int, packet: OpusPacket, *, clock: float = 1.0) -> None:
        at = number * len(packet) / RATE_HZ * clock
        self.passed += self.arrivals.overdue(at)
        self.passed += self.arrivals.push(number * len(packet), packet, at, sequence=number)


def test_a_packet_that_was_lost_is_made_up_by_the_decoder_that_hears_the_others() -> None:
    network = Network()
    packets = coded(voice(1), opus.CLOCK_HZ)
    for number, packet in enumerate(packets):
        if number != 20:
            network.bring(number, packet)
    assert len(network.passed) == len(packets) and network.passed[20] == lost(packets[19])
    assert (network.arrivals.lost, network.arrivals.concealed) == (1, 1)
    loud = loudness(heard(network.passed))
    assert min(loud[18:24]) > 0.3 * loud[15]


@pytest.mark.parametrize("toc", [SILK_20_MS, SILK_60_MS, CELT_2_5_MS, CELT_20_MS])
def test_packets_of_each_length_are_missed_by_their_own(toc: int) -> None:
    network = Network()
    packet = read_packet(bytes([toc]) + b"abc")
    for number in (0, 1, 4, *range(6, 40)):
        network.bring(number, packet)
    assert sum(map(len, network.passed)) == 40 * len(packet)
    assert network.arrivals.lost == 3 and network.arrivals.concealed in (2, 3)
    heard(network.passed)


def test_a_long_pause_is_silence_and_pieces_in_the_wrong_order_are_put_right() -> None:
    network = Network()
    packets = coded(voice(1), opus.CLOCK_HZ)
    for number in (0, 2, 1, 3, 3, 30, 31, 32):
        network.bring(number, packets[number])
    assert network.passed[:4] == packets[:4] and network.passed[-3:] == packets[30:33]
    assert set(network.passed[4:-3]) == {silence()} and network.arrivals.concealed == 0


@pytest.mark.parametrize("clock", [0.999, 1.001], ids=["fast", "slow"])
def test_a_carriers_clock_is_held_to_ours_by_packets_in_which_nothing_is_heard(clock: float) -> None:
    network = Network()
    sound = voice(2)
    sound[opus.CLOCK_HZ :] = 0
    packets = coded(sound, opus.CLOCK_HZ)
    for number, packet in zip(range(5000), itertools.cycle(packets), strict=False):
        network.bring(number, packet, clock=clock)
    arrivals = network.arrivals
    changed = arrivals.skipped if clock < 1 else arrivals.added
    assert changed == pytest.approx(5000 * 0.001, abs=3) and arrivals.skipped * arrivals.added == 0
    loud = [max(loudness(heard(network.passed[at : at + 50]))) for at in range(0, 4900, 100)]
    assert max(loud) > 0.1
    spoken = {packet.data for packet in packets[5:45]}
    said = sum(packet.data in spoken for packet in network.passed)
    assert said == 50 * sum(packet.data in spoken for packet in packets)  # nothing that is heard went


def test_sounds_of_ours_and_the_agents_packets_are_heard_on_one_line() -> None:
    line, tone = OpusVoice(), voice(0.4, rate_hz=RATE_HZ)
    frames = [tone[at : at + FRAME_SAMPLES] for at in range(0, len(tone), FRAME_SAMPLES)]
    agents = [piece for packet in coded(voice(0.4, rate_hz=SAMPLE_RATE_HZ), SAMPLE_RATE_HZ) for piece in cut(packet)]
    sent = [read_packet(line.encode(frame)) for frame in (*frames, *agents, *frames)]
    assert [packet.data for packet in sent[20:40]] == [packet.data for packet in agents]
    assert {len(packet) for packet in sent} == {FRAME_SAMPLES}
    loud = loudness(heard(sent))
    assert all(min(loud[at : at + 15]) > 0.15 for at in (3, 23, 43))
    assert not line.is_quiet(agents[10]) and not line.is_quiet(frames[10])
    quiet = coded(np.zeros(opus.CLOCK_HZ // 2, np.float32), opus.CLOCK_HZ)
    for packet in quiet[:10]:
        line.encode(packet)
    assert line.is_quiet(quiet[10]) and line.is_quiet(np.zeros(FRAME_SAMPLES, np.float32))
    assert FRAME_SECONDS * RATE_HZ == len(read_packet(line.silence))
