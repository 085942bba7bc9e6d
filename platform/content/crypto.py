"""Encryption of what was said, with a key per tenant that itself is wrapped by the installation's master key.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce before the ciphertext. The first byte names the version.
It knows nothing of the database: the gateway uses it beside its own connection pool.
"""

from __future__ import annotations

import base64
import os
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
NONCE_BYTES = 12


class DecryptionFailed(Exception):
    """The ciphertext was changed, or made with another key."""


def encrypt(key: bytes, plaintext: bytes, context: bytes = b"") -> bytes:
    """Return version, nonce and ciphertext. `key`: 32 bytes; `context` must be the same when decrypting."""
    nonce = os.urandom(NONCE_BYTES)
    return VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def decrypt(key: bytes, ciphertext: bytes, context: bytes = b"") -> bytes:
    """Return the plaintext.

    Raises:
        DecryptionFailed: the key, the context or the ciphertext is not the right one.
    """
    ciphertext = bytes(ciphertext)
    if ciphertext[:1] != VERSION:
        raise DecryptionFailed("This content was encrypted by a newer version.")
    try:
        return AESGCM(key).decrypt(ciphertext[1 : 1 + NONCE_BYTES], ciphertext[1 + NONCE_BYTES :], context)
    except InvalidTag as problem:
        raise DecryptionFailed("This content cannot be decrypted with the tenant's key.") from problem


def generate_key() -> bytes:
    return AESGCM.generate_key(bit_length=256)


def master_key(setting: str) -> bytes:
    """Return the 32 bytes of WARMLINE_CONTENT_KEY (base64, as `openssl rand -base64 32` prints).

    Raises:
        ValueError: it is missing or of another length.
    """
    try:
        key = base64.b64decode(setting, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError("WARMLINE_CONTENT_KEY must be 32 bytes in base64: make one with `openssl rand -base64 32`.")
    return key


def wrap_key(master: bytes, tenant_id: uuid.UUID, key: bytes) -> bytes:
    return encrypt(master, key, context=tenant_id.bytes)


def unwrap_key(master: bytes, tenant_id: uuid.UUID, wrapped: bytes) -> bytes:
    return decrypt(master, wrapped, context=tenant_id.bytes)
