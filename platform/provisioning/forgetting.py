"""Deleting the credentials of accounts that were left, when nothing needs them any more. See also `accounts`."""

from __future__ import annotations

import datetime

from django.utils import timezone

from provisioning import vault
from provisioning.importing import READ_AGAIN
from provisioning.models import Account, Deployment
from tenants import audit
from tenants.scope import atomic, enter_operator, enter_tenant


def forget_left_accounts(at: datetime.datetime | None = None) -> int:
    """Delete the credentials of accounts in which nothing stands any more, and whose bill was read or is not shown."""
    at = at or timezone.now()
    with enter_operator("beat", reason="forget accounts that were left"):
        done = [account for account in Account.objects.left() if _is_done_with(account, at)]
        for account in done:
            with atomic(), enter_tenant(account.tenant_id):
                vault.in_use().forget(account.pk)
                account.become_forgotten()
                audit.record(action="account.forgotten", target=account)
    return len(done)


def _is_done_with(account: Account, at: datetime.datetime) -> bool:
    made = Deployment.objects.in_account(account.ref)
    if made.live().exists():
        return False
    is_recent = made.filter(stopped_at__gt=at - READ_AGAIN).exists()
    return bool(account.bill_problem) or not is_recent
