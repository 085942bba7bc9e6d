"""The operator's workspace on Modal, as the settings name it, for commands."""

from __future__ import annotations

from django.conf import settings

from provisioning.backends.contract import CredentialsRefused
from provisioning.backends.modal.clients import Credentials, client_of
from provisioning.backends.modal.problems import named
from provisioning.backends.modal.workspace import ASK_SECONDS, Workspace


async def open_workspace() -> Workspace:
    """Return a connection to it.

    Raises:
        BackendError
    """
    if not settings.MODAL_TOKEN_ID or not settings.MODAL_TOKEN_SECRET:
        raise CredentialsRefused(
            "There are no credentials for Modal: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET (`modal token new`)."
        )
    async with named(within_seconds=ASK_SECONDS):
        client = await client_of(Credentials(settings.MODAL_TOKEN_ID, settings.MODAL_TOKEN_SECRET))
    return Workspace(client, settings.MODAL_ENVIRONMENT)
