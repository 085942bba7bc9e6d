"""Pieces of sound in every order that networks know: what passes on, when, and what is made up. No real clock."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from voice.telephony.arrivals import STARVED_SECONDS, Arrivals, unwrap
from voice.telephony.concealment import Concealment
from voice.telephony.dialects import TWILIO
from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, PCMU, RATE_HZ, Samples
from voice.telephony.opus import OpusPacket
from voice.telephony.pacing import MOST_AHEAD_SECONDS, WINDOW_SECONDS, Trim
from voice.telephony.pieces import PcmPieces
from voice.telephony.streams import Started, StreamLeg

VOICE_HZ = 125  # periods of 64 samples


def voice(number: int, *, loud: bool = True) -> Samples:
    """The frame of this number of a voice that goes on and on."""
    at = (number * FRAME_SAMPLES + np.arange(FRAME_SAMPLES)) / RATE_HZ
    return (0.3 * loud * np.sin(2 * np.pi * VOICE_HZ * at)).astype(np.float32)


class Network:
    """Brings numbered frames to Arrivals, each by default when it is due."""

    def __init__(self) -> None:
        self.arrivals = Arrivals(PcmPieces())
        self.heard: list[Samples] = []

    def bring(self, number: int, *, late_seconds: float = 0.0, loud: bool = True, clock: float = 1.0) -> int:
        """Return how many frames passed on."""
        at = number * FRAME_SECONDS * clock + late_seconds
        frames = self.arrivals.overdue(at)
        frames += self.arrivals.push(number * FRAME_SAMPLES, voice(number, loud=loud), at, sequence=number)
        self.heard += frames
        return len(frames)


def test_a_network_without_losses_adds_nothing() -> None:
    network = Network()
    assert [network.bring(number) for number in range(50)] == [1] * 50
    assert np.array_equal(np.concatenate(network.heard), np.concatenate([voice(number) for number in range(50)]))
    arrivals = network.arrivals
    assert (arrivals.lost, arrivals.late, arrivals.concealed, arrivals.skipped) == (0, 0, 0, 0)
    assert arrivals.jitter_seconds == pytest.approx(0)


def test_pieces_in_the_wrong_order_are_put_right_while_there_is_time() -> None:
    network = Network()
    for number in (0, 1, 3, 2, 4):
        network.bring(number, late_seconds=0.021 if number == 2 else 0.0)
    assert np.array_equal(np.concatenate(network.heard), np.concatenate([voice(number) for number in range(5)]))
    assert network.arrivals.lost == network.arrivals.late == 0


def test_a_lost_piece_is_concealed_by_the_voice_around_it() -> None:
    network = Network()
    for number in (*range(10), *range(11, 20)):
        network.bring(number)
    heard, said = np.concatenate(network.heard), np.concatenate([voice(number) for number in range(20)])
    assert len(heard) == len(said) and network.arrivals.lost == network.arrivals.concealed == 1
    assert np.abs(heard - said).max() < 0.1  # of a voice at 0.3: the period goes on, and fades a little
    assert np.abs(np.diff(heard)).max() < 1.3 * np.abs(np.diff(said)).max()  # no clicks


def test_a_long_loss_fades_into_silence() -> None:
    concealment = Concealment()
    for number in range(5):
        concealment.hear(voice(number))
    loudness = [float(np.abs(concealment.make_up()).max()) for _ in range(5)]
    assert loudness[0] > 0.25 and loudness[1] < loudness[0] and loudness[-1] == 0


def test_a_piece_that_comes_when_its_place_is_filled_is_late_and_let_go() -> None:
    network = Network()
    for number in (0, 1, 3, 4, 5, 6, 7, 8):
        network.bring(number)
    network.bring(2, late_seconds=0.2)
    assert (network.arrivals.late, network.arrivals.lost, network.arrivals.concealed) == (1, 0, 1)
    assert len(network.heard) == 9


def test_a_piece_that_comes_twice_is_heard_once() -> None:
    network = Network()
    for number in (0, 1, 1, 2, 0, 3):
        network.bring(number)
    assert len(network.heard) == 4 and network.arrivals.received == 4 and network.arrivals.late == 0


def test_a_wait_for_what_is_missing_grows_with_the_networks_jitter() -> None:
    calm, wild = Network(), Network()
    for number in range(200):
        calm.bring(number)
        wild.bring(number, late_seconds=0.03 * (number % 2))
    for network in (calm, wild):
        network.bring(201, late_seconds=0.0)
    assert calm.bring(202) == 3  # the gap was closed after 20 ms
    assert wild.bring(202) == 0
    assert wild.bring(200, late_seconds=0.09) == 3
    assert wild.arrivals.late == 0


def test_sound_that_was_held_up_is_heard_in_full_and_the_delay_is_taken_back_in_silence() -> None:
    network = Network()
    for number in range(500):
        network.bring(number, loud=number % 100 < 50)
    came_at = 650 * FRAME_SECONDS
    filled = 0
    for tick in range(500, 650):
        filled += len(network.arrivals.overdue(tick * FRAME_SECONDS))
    assert filled == pytest.approx((came_at - 500 * FRAME_SECONDS - STARVED_SECONDS) / FRAME_SECONDS, abs=2)
    for number in range(500, 650):  # three seconds come at once
        network.heard += network.arrivals.push(number * FRAME_SAMPLES, voice(number), came_at, sequence=number)
    assert len(network.heard) == 650
    for number in range(650, 1500):
        network.bring(number, loud=number % 100 < 50)
    assert network.arrivals.skipped == pytest.approx(filled, abs=2)


@pytest.mark.parametrize("clock", [0.999, 1.001], ids=["the carrier's clock is fast", "it is slow"])
def test_a_clock_that_drifts_is_held_to_ours_by_silence_alone(clock: float) -> None:
    network = Network()
    minutes = 5 * 60
    count = int(minutes / FRAME_SECONDS)
    for number in range(count):
        network.bring(number, loud=number % 100 < 60, clock=clock)
    arrivals = network.arrivals
    passed_seconds = len(network.heard) * FRAME_SECONDS
    assert abs(passed_seconds - count * FRAME_SECONDS * clock) < 0.1
    assert (arrivals.skipped if clock < 1 else arrivals.added) > 10
    loud = sum(1 for frame in network.heard if np.abs(frame).max() > 0.1)
    assert loud == sum(1 for number in range(count) if number % 100 < 60)


def test_a_carrier_that_sends_nothing_in_silence_is_heard_as_silence() -> None:
    network = Network()
    for number in (*range(10), *range(60, 70)):
        network.bring(number)
    network.bring(70)
    assert network.arrivals.concealed == 0
    assert len(network.heard) == pytest.approx(71, abs=1)


def test_a_stream_that_begins_anew_is_followed() -> None:
    network = Network()
    for number in range(10):
        network.bring(number)
    frames = network.arrivals.push(9_000_000, voice(0), 0.25, sequence=10)
    assert len(frames) == 1 and network.arrivals.late == 0


def test_pieces_of_other_lengths_become_frames() -> None:
    arrivals = Arrivals(PcmPieces())
    sound = np.concatenate([voice(number) for number in range(6)])
    frames = []
    for sequence, at in enumerate(range(0, len(sound), 240)):
        frames += arrivals.push(at, sound[at : at + 240], at / RATE_HZ, sequence=sequence)
    assert np.array_equal(np.concatenate(frames), sound)


@pytest.mark.parametrize(
    "lengths",
    [[80] + [160] * 99, [320] + [160] * 99, [240] * 50 + [160] * 50, [160] * 50 + [240] * 50],
    ids=["a short first one", "a long first one", "shorter from the middle on", "longer from the middle on"],
)
def test_a_streams_pieces_may_change_their_length_in_any_order(lengths: list[int]) -> None:
    ends = np.cumsum(lengths)
    sound = np.concatenate([voice(number) for number in range(ends[-1] // FRAME_SAMPLES + 1)])
    leg = StreamLeg(None, Started("s", "c", {}), TWILIO)  # type: ignore[arg-type]  # nothing is sent
    arrivals = Arrivals(PcmPieces())
    order = list(range(len(lengths)))
    order[20:22] = order[21:19:-1]
    frames = []
    for index in order:
        payload = PCMU.encode(sound[ends[index] - lengths[index] : ends[index]])
        media = {"chunk": str(index + 1), "payload": base64.b64encode(payload).decode()}
        heard = leg._read_sound(media)
        assert heard is not None and not isinstance(heard.piece, OpusPacket)
        frames += arrivals.push(heard.position, heard.piece, ends[index] / RATE_HZ, sequence=heard.sequence)
    passed = np.concatenate(frames)
    assert (arrivals.late, arrivals.concealed, arrivals.lost) == (0, 0, 0)
    assert ends[-1] - len(passed) < FRAME_SAMPLES
    assert np.abs(passed - sound[: len(passed)]).max() < 0.02


def test_counters_that_wrap_go_on() -> None:
    assert unwrap(3, after=65_534, bits=16) == 65_539
    assert unwrap(65_530, after=65_539, bits=16) == 65_530
    assert unwrap(5, after=(1 << 32) - 10, bits=32) == (1 << 32) + 5


def test_what_waits_to_be_heard_does_not_grow_over_a_long_call() -> None:
    trim, waiting, skipped = Trim(), 0.0, 0
    for number in range(int(120 / FRAME_SECONDS)):
        at = number * FRAME_SECONDS
        waiting += FRAME_SECONDS * 0.002  # an agent whose clock is faster by two in a thousand
        if trim.leaves_out(voice(number, loud=number % 50 < 40), 0.12 + waiting, at):
            waiting -= FRAME_SECONDS
            skipped += 1
    assert skipped == trim.skipped > 3
    assert 0.12 + waiting < MOST_AHEAD_SECONDS + 2 * FRAME_SECONDS + 0.002 * WINDOW_SECONDS
