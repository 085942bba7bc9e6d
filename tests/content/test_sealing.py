"""Sealed files: any part can be read, and nothing can be changed, left out or cut off."""

from __future__ import annotations

import io
import os

import pytest

from content.crypto import DecryptionFailed
from content.sealing import PIECE_BYTES, SealedFile, seal

KEY = b"k" * 32
SEALED_PIECE = PIECE_BYTES + 16


def opened(sealed: bytes, *, key: bytes = KEY, context: bytes = b"call 1") -> SealedFile:
    return SealedFile(io.BytesIO(sealed), sealed_bytes=len(sealed), key=key, context=context)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 200_000])
def test_what_was_sealed_comes_back(size: int) -> None:
    plain = os.urandom(size)
    file = opened(seal(KEY, plain, b"call 1"))
    assert file.size == size and file.read() == plain
    for begin, end in ((0, 1), (0, size), (size // 2, size), (PIECE_BYTES - 1, PIECE_BYTES + 1), (size - 1, size + 9)):
        if 0 <= begin < size:
            assert file.read(begin, end) == plain[begin:end]


def test_nothing_of_it_can_be_read_in_what_is_kept() -> None:
    assert b"said in confidence" not in seal(KEY, b"said in confidence" * 100, b"")


@pytest.mark.parametrize("change", ["key", "context", "flipped", "cut", "cut within", "swapped", "doubled"])
def test_what_was_changed_cannot_be_read(change: str) -> None:
    sealed = seal(KEY, os.urandom(3 * PIECE_BYTES), b"call 1")
    head, pieces = sealed[:11], [sealed[11 + n * SEALED_PIECE : 11 + (n + 1) * SEALED_PIECE] for n in range(3)]
    match change:
        case "flipped":
            sealed = sealed[:70_000] + bytes([sealed[70_000] ^ 1]) + sealed[70_001:]
        case "cut":
            sealed = head + pieces[0] + pieces[1]
        case "cut within":
            sealed = sealed[:-5000]
        case "swapped":
            sealed = head + pieces[1] + pieces[0] + pieces[2]
        case "doubled":
            sealed = head + pieces[0] + b"".join(pieces)
    with pytest.raises(DecryptionFailed):
        opened(
            sealed, key=b"x" * 32 if change == "key" else KEY, context=b"call 2" if change == "context" else b"call 1"
        ).read()


@pytest.mark.parametrize("file", [b"", b"WLS1", b"WLS1" + bytes(10), b"OggS" + bytes(100)])
def test_what_is_no_sealed_file_is_said_to_be_none(file: bytes) -> None:
    with pytest.raises(DecryptionFailed):
        opened(file).read()
