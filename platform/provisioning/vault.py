"""Where the credentials of tenants' own accounts lie: a layer that knows how they are encrypted says so at start-up.

What reads them asks by a plain id, and knows nothing of keys and tables.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Protocol

from provisioning.backends.contract import AccountRef, CredentialsRefused

KEPT_SECONDS = 30.0
"""How long credentials are used after they were replaced or deleted."""


class Vault(Protocol):
    def store(self, account_id: uuid.UUID, credentials: Mapping[str, str]) -> None:
        """Keep an account's credentials, encrypted with the entered tenant's key, in place of those before."""

    def forget(self, account_id: uuid.UUID) -> None:
        """Delete them, in the entered tenant."""

    async def read(self, account: AccountRef) -> Mapping[str, str] | None:
        """Return them; None where there are none. No tenant needs to be entered."""


_vault: Vault | None = None


def use(vault: Vault) -> None:
    """Say which vault this process has; called once, from an app's `ready()`."""
    global _vault
    _vault = vault


def in_use() -> Vault:
    if _vault is None:
        raise RuntimeError("No vault is in use: an app above this one calls provisioning.vault.use().")
    return _vault


class ReadCredentials:
    """Credentials as a backend asks for them again and again, kept for a while."""

    def __init__(self, vault: Vault | None) -> None:
        self._vault = vault
        self._read: dict[AccountRef, tuple[float, Mapping[str, str]]] = {}

    async def of(self, account: AccountRef) -> Mapping[str, str]:
        """Return an account's credentials.

        Raises:
            CredentialsRefused: they were removed.
        """
        now = time.monotonic()
        read_at, credentials = self._read.get(account, (0.0, {}))
        if not credentials or now - read_at > KEPT_SECONDS:
            self._read.pop(account, None)
            found = await self._vault.read(account) if self._vault else None
            if not found:
                raise CredentialsRefused("The credentials of the account that this stands in were removed.")
            credentials = found
            self._read[account] = now, credentials
        return credentials
