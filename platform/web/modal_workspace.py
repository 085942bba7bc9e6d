"""The operator's workspace on Modal, as the settings name it, for commands that fill it."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError

from provisioning.backends.contract import CredentialsRefused
from provisioning.backends.modal.clients import Credentials, client_of
from provisioning.backends.modal.problems import named
from provisioning.backends.modal.workspace import ASK_SECONDS, Workspace
from provisioning.retrying import try_again_for


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


def retry_pools(command: BaseCommand, names: list[str]) -> None:
    """Have the pools deployed again that had failed for want of these images or weights, and say so."""
    if not names:
        return
    try:
        pools = try_again_for(names, backend="modal")
    except DatabaseError:  # images may be built where no database is
        command.stderr.write("The database cannot be reached: pools that had failed are tried again on their pages.")
        return
    for pool in pools:
        command.stderr.write(f"{pool} had failed, and is deployed again.")
