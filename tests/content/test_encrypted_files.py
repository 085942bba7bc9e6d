"""Encrypted files: any part can be read, and nothing can be changed, left out or cut off."""

from __future__ import annotations

import io
import os

import pytest

from content.crypto import DecryptionFailed
from content.encrypted_files import PIECE_BYTES, EncryptedFile, encrypt_file

KEY = b"k" * 32
ENCRYPTED_PIECE = PIECE_BYTES + 16


def opened(encrypted: bytes, *, key: bytes = KEY, context: bytes = b"call 1") -> EncryptedFile:
    return EncryptedFile(io.BytesIO(encrypted), encrypted_bytes=len(encrypted), key=key, context=context)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 200_000])
def test_what_was_encrypted_comes_back(size: int) -> None:
    plain = os.urandom(size)
    file = opened(encrypt_file(KEY, plain, b"call 1"))
    assert file.size == size and file.read() == plain
    for begin, end in ((0, 1), (0, size), (size // 2, size), (PIECE_BYTES - 1, PIECE_BYTES + 1), (size - 1, size + 9)):
        if 0 <= begin < size:
            assert file.read(begin, end) == plain[begin:end]


def test_nothing_of_it_can_be_read_in_what_is_kept() -> None:
    assert b"said in confidence" not in encrypt_file(KEY, b"said in confidence" * 100, b"")


@pytest.mark.parametrize("change", ["key", "context", "flipped", "cut", "cut within", "swapped", "doubled"])
def test_what_was_changed_cannot_be_read(change: str) -> None:
    encrypted = encrypt_file(KEY, os.urandom(3 * PIECE_BYTES), b"call 1")
    head, pieces = (
        encrypted[:11],
        [encrypted[11 + n * ENCRYPTED_PIECE : 11 + (n + 1) * ENCRYPTED_PIECE] for n in range(3)],
    )
    match change:
        case "flipped":
            encrypted = encrypted[:70_000] + bytes([encrypted[70_000] ^ 1]) + encrypted[70_001:]
        case "cut":
            encrypted = head + pieces[0] + pieces[1]
        case "cut within":
            encrypted = encrypted[:-5000]
        case "swapped":
            encrypted = head + pieces[1] + pieces[0] + pieces[2]
        case "doubled":
            encrypted = head + pieces[0] + b"".join(pieces)
    with pytest.raises(DecryptionFailed):
        opened(
            encrypted,
            key=b"x" * 32 if change == "key" else KEY,
            context=b"call 2" if change == "context" else b"call 1",
        ).read()


@pytest.mark.parametrize("file", [b"", b"WLE1", b"WLE1" + bytes(10), b"OggS" + bytes(100)])
def test_what_is_no_encrypted_file_is_said_to_be_none(file: bytes) -> None:
    with pytest.raises(DecryptionFailed):
        opened(file).read()
