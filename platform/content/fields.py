"""Model fields whose value is encrypted with the tenant's key. They belong on TenantOwned models only.

The plaintext is made when the attribute is read, inside the tenant's scope; the column holds bytes, so it cannot be
searched or sorted by.
"""

from __future__ import annotations

import json
from typing import Any

from django.db import models

from content import crypto


class _Decrypting:
    """The attribute: holds ciphertext from the database until it is read."""

    def __init__(self, field: EncryptedTextField) -> None:
        self.field = field

    def __get__(self, row: Any, owner: type | None = None) -> Any:
        if row is None:
            return self
        value = row.__dict__.get(self.field.attname)
        if isinstance(value, bytes | memoryview):
            from content.keys import tenant_key

            value = self.field.from_plaintext(crypto.decrypt(tenant_key(row.tenant_id), bytes(value)).decode())
            row.__dict__[self.field.attname] = value
        return value

    def __set__(self, row: Any, value: Any) -> None:
        row.__dict__[self.field.attname] = value


class EncryptedTextField(models.BinaryField):
    def contribute_to_class(self, cls: Any, name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        setattr(cls, self.attname, _Decrypting(self))

    def pre_save(self, row: Any, add: bool) -> Any:
        from content.keys import tenant_key

        value = row.__dict__.get(self.attname)
        if value is None or isinstance(value, bytes | memoryview):
            return value
        return crypto.encrypt(tenant_key(row.tenant_id), self.to_plaintext(value).encode())

    def to_plaintext(self, value: Any) -> str:
        return str(value)

    def from_plaintext(self, plaintext: str) -> Any:
        return plaintext


class EncryptedJSONField(EncryptedTextField):
    def to_plaintext(self, value: Any) -> str:
        # Escaped, so that half a surrogate pair, which a language model may write, is kept as it came.
        return json.dumps(value, separators=(",", ":"))

    def from_plaintext(self, plaintext: str) -> Any:
        return json.loads(plaintext)
