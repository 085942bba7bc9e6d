"""A tenant's own account with a provider: saved once the provider knows its credentials, replaced, left.

Nothing that serves is cut off. What stands in an account that is left goes on until its place is taken elsewhere, and
is drained and stopped there, with the old credentials; `forgetting` deletes them when its last hours are on the bill.
"""

from __future__ import annotations

from collections.abc import Mapping

from asgiref.sync import async_to_sync
from django.db import connections
from django.utils import timezone

from provisioning import pools, vault
from provisioning.backends import OWN_ACCOUNTS, make_backend
from provisioning.backends.contract import BackendError
from provisioning.models import Account
from tenants import audit
from tenants.models import User
from tenants.ownership import entered_tenant_id
from tenants.scope import current_alias

MOST_CHARACTERS = 200


class BadCredentials(ValueError):
    """The credentials cannot be saved. The sentence may be shown; `field` is the one that it is about, if any."""

    def __init__(self, sentence: str, *, field: str | None = None) -> None:
        super().__init__(sentence)
        self.field = field


def save_account(*, backend: str, credentials: Mapping[str, str], actor: User | None) -> Account:
    """Save credentials once the provider has told whose they are. New ones of the same account replace the old.

    Raises:
        BadCredentials: they are none, or the provider refuses them, or it cannot be asked.
    """
    cleaned = {name: _word(name, credentials.get(name, "")) for name in OWN_ACCOUNTS[backend]}
    try:
        name = async_to_sync(_ask_name)(backend, cleaned)
    except BackendError as problem:
        raise BadCredentials(problem.sentence) from problem
    # Two saved at once could both find that there is none yet.
    with connections[current_alias()].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"accounts of {entered_tenant_id()}"])
    current = Account.objects.of_backend(backend).in_use().first()
    if current is not None and name and current.name == name:
        account, is_same = current, True
    else:
        if current is not None:
            current.leave()
        account, is_same = Account(tenant_id=entered_tenant_id(), backend=backend, name=name), False
    account.last_four, account.saved_at = cleaned[OWN_ACCOUNTS[backend][0]][-4:], timezone.now()
    account.saved_by = actor.email if actor else ""
    account.bill_problem = ""
    account.save()
    vault.in_use().store(account.pk, cleaned)
    audit.record(action="account.credentials_replaced" if is_same else "account.saved", target=account, actor=actor)
    if not is_same:
        pools.deploy_again(backend)
    return account


def leave_account(*, account: Account, actor: User | None) -> None:
    """Have the pools stand in the operator's account again; the credentials are deleted when nothing needs them."""
    if account.left_at is None:
        account.leave()
        audit.record(action="account.left", target=account, actor=actor)
        pools.deploy_again(account.backend)


def _word(name: str, value: str) -> str:
    word = value.strip()
    if not word.isascii() or not word.isprintable() or " " in word or not 4 <= len(word) <= MOST_CHARACTERS:
        raise BadCredentials("This is one word of letters, digits and signs.", field=name)
    return word


async def _ask_name(name: str, credentials: Mapping[str, str]) -> str:
    async with make_backend(name) as backend:
        return await backend.account_name(credentials)
