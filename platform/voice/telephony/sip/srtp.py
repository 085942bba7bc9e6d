"""Encrypted sound: SRTP (RFC 3711) by libsrtp, with keys that both sides tell in their descriptions (RFC 4568, SDES).

Whoever reads the signalling has the keys: they are taken and given over TLS only. voice.telephony.sip.media sees to it.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import re
import secrets
from collections.abc import Sequence

import pylibsrtp

KEY_BYTES = 30
"""Of the master key, and its salt."""
CRYPTO = re.compile(
    r"(?P<tag>\d{1,9}) (?P<suite>\w+) inline:(?P<key>[A-Za-z0-9+/=]{40})"
    r"(?:\|(?:2\^\d{1,2}|\d{1,15}))?(?P<more>(?: WSH=\d{1,5})*) ?"
)
"""A lifetime is let stand: no call has so many packets. A line with what changes packets, like an MKI, is not taken."""


class Suite(enum.StrEnum):
    SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    SHA1_32 = "AES_CM_128_HMAC_SHA1_32"


_PROFILES = {
    Suite.SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    Suite.SHA1_32: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


class NoCommonKey(Exception):
    """The answer has not what we offered. The sentence is for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Crypto:
    """What one side encrypts with."""

    tag: int
    suite: Suite
    key: bytes = dataclasses.field(repr=False)

    @classmethod
    def make(cls, tag: int, suite: Suite) -> Crypto:
        return cls(tag, suite, secrets.token_bytes(KEY_BYTES))

    @property
    def line(self) -> str:
        return f"{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode()}"


def find_key(lines: Sequence[str]) -> Crypto | None:
    """Return the first that we speak, of the values of `a=crypto`."""
    for line in lines:
        match = CRYPTO.fullmatch(line.strip())
        if match is None:
            continue
        try:
            suite, key = Suite(match["suite"]), base64.b64decode(match["key"], validate=True)
        except ValueError:  # that of base64 is one of them
            continue
        if len(key) == KEY_BYTES:
            return Crypto(int(match["tag"]), suite, key)
    return None


class Encryption:
    """What both sides of a call told of their keys, and the packets that these are for."""

    def __init__(self) -> None:
        self._ours: Crypto | None = None
        self._theirs: Crypto | None = None
        self._offered: dict[int, Crypto] = {}
        self._outgoing: pylibsrtp.Session | None = None
        self._incoming: pylibsrtp.Session | None = None

    # --- what is told --------------------------------------------------------------------------------------------
    def offer(self) -> list[str]:
        """Return the lines of an offer of ours."""
        offered = [self._ours] if self._ours else [Crypto.make(tag, suite) for tag, suite in enumerate(Suite, start=1)]
        self._offered = {each.tag: each for each in offered}
        return [each.line for each in offered]

    def take_answer(self, theirs: Crypto | None) -> None:
        """
        Raises:
            NoCommonKey
        """
        if theirs is None:
            self._agree(None, None)
            return
        ours = self._offered.get(theirs.tag)
        if ours is None or ours.suite is not theirs.suite:
            raise NoCommonKey("the answer has another key than was offered")
        self._agree(ours, theirs)

    def answer(self, theirs: Crypto | None) -> list[str]:
        """Take an offer of theirs, and return the line that answers it: our key stays for as long as it fits."""
        if theirs is None:
            self._agree(None, None)
            return []
        if self._ours is None or self._ours.suite is not theirs.suite:
            ours = Crypto.make(theirs.tag, theirs.suite)
        else:
            ours = dataclasses.replace(self._ours, tag=theirs.tag)
        self._agree(ours, theirs)
        return [ours.line]

    def _agree(self, ours: Crypto | None, theirs: Crypto | None) -> None:
        """Begin anew where a key is another one: with the same, numbers of packets are counted on."""
        if _secret_of(ours) != _secret_of(self._ours):
            self._outgoing = _session(ours, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        if _secret_of(theirs) != _secret_of(self._theirs):
            self._incoming = _session(theirs, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self._ours, self._theirs = ours, theirs

    # --- packets -------------------------------------------------------------------------------------------------
    def protect(self, packet: bytes) -> bytes:
        """Return a packet of RTP as it is sent; as it is where nothing is encrypted."""
        return packet if self._outgoing is None else self._outgoing.protect(packet)

    def unprotect(self, packet: bytes) -> bytes | None:
        """Return the packet of RTP that came, or None where it is not theirs, was changed, or came before."""
        if self._incoming is None:
            return packet
        try:
            return self._incoming.unprotect(packet)
        except (pylibsrtp.Error, ValueError):
            return None

    def protect_control(self, packet: bytes) -> bytes:
        """The same for RTCP."""
        return packet if self._outgoing is None else self._outgoing.protect_rtcp(packet)

    def unprotect_control(self, packet: bytes) -> bytes | None:
        if self._incoming is None:
            return packet
        try:
            return self._incoming.unprotect_rtcp(packet)
        except (pylibsrtp.Error, ValueError):
            return None


def _secret_of(crypto: Crypto | None) -> tuple[Suite, bytes] | None:
    return None if crypto is None else (crypto.suite, crypto.key)


def _session(crypto: Crypto | None, kind: int) -> pylibsrtp.Session | None:
    if crypto is None:
        return None
    policy = pylibsrtp.Policy(key=crypto.key, ssrc_type=kind, srtp_profile=_PROFILES[crypto.suite])
    return pylibsrtp.Session(policy)
