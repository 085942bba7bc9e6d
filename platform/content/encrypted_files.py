"""Files that are encrypted piece by piece, so that any part can be read without the rest.

A header (form, random 7 bytes of nonce), then pieces of 64 KiB, each AES-256-GCM under the tenant's key. A piece's
nonce is those 7 bytes, its number, and whether it is the last: pieces cannot be reordered, left out or cut off
unnoticed.
Source: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance, 2015). See also: content.crypto, for what is read as a whole.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from content.crypto import DecryptionFailed

FORM = b"WLE1"
PIECE_BYTES = 65_536
_TAG_BYTES = 16
_PREFIX_BYTES = 7
_HEADER_BYTES = len(FORM) + _PREFIX_BYTES
_ENCRYPTED_BYTES = PIECE_BYTES + _TAG_BYTES


def encrypt_file(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Return an encrypted file. `key`: 32 bytes; `context` must be the same when it is opened."""
    cipher, prefix = AESGCM(key), os.urandom(_PREFIX_BYTES)
    last = max(0, -(-len(plaintext) // PIECE_BYTES) - 1)
    pieces = [
        cipher.encrypt(
            _nonce(prefix, number, is_last=number == last),
            plaintext[number * PIECE_BYTES : (number + 1) * PIECE_BYTES],
            context,
        )
        for number in range(last + 1)
    ]
    return b"".join((FORM, prefix, *pieces))


class EncryptedFile:
    """An encrypted file that stands open, read from where one likes.

    Raises:
        DecryptionFailed: it is none. From `read` also: it was changed, or key or context is not the right one.
    """

    def __init__(self, file: BinaryIO, *, encrypted_bytes: int, key: bytes, context: bytes) -> None:
        header = file.read(_HEADER_BYTES)
        body = encrypted_bytes - _HEADER_BYTES
        self._pieces = -(-body // _ENCRYPTED_BYTES)
        if header[: len(FORM)] != FORM or body < _TAG_BYTES:
            raise DecryptionFailed("This is no encrypted file, or its beginning alone.")
        self.size = body - self._pieces * _TAG_BYTES
        """Bytes of the plaintext."""
        self._file = file
        self._prefix = header[len(FORM) :]
        self._cipher = AESGCM(key)
        self._context = context

    def read(self, begin: int = 0, end: int | None = None) -> bytes:
        """Return bytes [begin, end) of the plaintext."""
        end = self.size if end is None else min(end, self.size)
        first = begin // PIECE_BYTES
        last = max(first, (end - 1) // PIECE_BYTES)
        self._file.seek(_HEADER_BYTES + first * _ENCRYPTED_BYTES)
        numbers = range(first, min(last, self._pieces - 1) + 1)
        # At once: where it lies elsewhere, each reading is a request.
        encrypted = memoryview(self._file.read(len(numbers) * _ENCRYPTED_BYTES))
        plain = b"".join(
            self._open(number, encrypted[at * _ENCRYPTED_BYTES : (at + 1) * _ENCRYPTED_BYTES])
            for at, number in enumerate(numbers)
        )
        return plain[begin - first * PIECE_BYTES : end - first * PIECE_BYTES]

    def _open(self, number: int, encrypted: memoryview) -> bytes:
        nonce = _nonce(self._prefix, number, is_last=number == self._pieces - 1)
        try:
            return self._cipher.decrypt(nonce, encrypted, self._context)
        except InvalidTag as problem:
            raise DecryptionFailed("This file cannot be opened with the tenant's key.") from problem


def _nonce(prefix: bytes, number: int, *, is_last: bool) -> bytes:
    return prefix + number.to_bytes(4) + bytes([is_last])
