"""The vault of accounts' credentials that `provisioning` asks for: their rows are in `content`, unknown to it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

import psycopg
from django.conf import settings

from content import account_credentials
from content.crypto import DecryptionFailed
from content.keys import TenantKeyDeleted
from provisioning.backends.contract import AccountRef, BackendUnreachable, CredentialsRefused
from tenants.scope import enter_tenant_async

READ_SECONDS = 5.0


class ContentVault:
    """See `provisioning.vault.Vault`."""

    def store(self, account_id: uuid.UUID, credentials: Mapping[str, str]) -> None:
        account_credentials.store_credentials(account_id, credentials)

    def forget(self, account_id: uuid.UUID) -> None:
        account_credentials.delete_credentials(account_id)

    async def read(self, account: AccountRef) -> Mapping[str, str] | None:
        """Read on a connection of its own, in whatever process and event loop: now and then for each account.

        Raises:
            BackendUnreachable, CredentialsRefused
        """
        tenant_id = uuid.UUID(account.tenant_id)
        try:
            async with (
                asyncio.timeout(READ_SECONDS),
                await psycopg.AsyncConnection.connect(settings.DATABASE_URL) as connection,
            ):
                await enter_tenant_async(connection, tenant_id)
                return await account_credentials.read_credentials(
                    connection, tenant_id=tenant_id, account_id=uuid.UUID(account.id)
                )
        except (psycopg.Error, TimeoutError) as problem:
            raise BackendUnreachable("The account's credentials cannot be read: the database is away.") from problem
        except (DecryptionFailed, TenantKeyDeleted) as problem:
            raise CredentialsRefused(f"The account's credentials cannot be opened: {problem}") from problem
