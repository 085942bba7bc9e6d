"""Reading providers' bills, by the labels of our deployments: what each hour of each of them cost, as told last.

The ledger is brought to it later, when all is in it that an hour is to hold: see `correcting`.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterable, Sequence

import structlog
from asgiref.sync import async_to_sync
from django.utils import timezone

from provisioning.backends import OWN_ACCOUNTS, make_backend
from provisioning.backends.contract import AccountRef, BackendError, BilledCost
from provisioning.models import Account, BackendStanding, BilledHour, Deployment
from provisioning.models.deployments import DeploymentQuerySet
from provisioning.settling import hour_of
from tenants.models import Tenant
from tenants.scope import atomic, enter_operator

log = structlog.get_logger(__name__)

READ_AGAIN = datetime.timedelta(days=3)
"""Providers correct their bills: so much of it is read each time."""
LONGEST_READ = datetime.timedelta(days=31)
"""What came while nothing was read is read up to so far back."""


@dataclasses.dataclass(frozen=True, slots=True)
class Imported:
    """How many hours were told anew, and how many of them are of no deployment that is known."""

    hours: int = 0
    unknown: int = 0

    def __add__(self, other: Imported) -> Imported:
        return Imported(self.hours + other.hours, self.unknown + other.unknown)


def import_bills(at: datetime.datetime | None = None) -> Imported:
    """Read the bills of all accounts that anything stands in, or stood in lately. One that is away keeps no other."""
    until = hour_of(at or timezone.now())
    imported = Imported()
    with enter_operator("beat", reason="read providers' bills"):
        accounts: list[Account | BackendStanding] = [*_operators_accounts(), *Account.objects.filter(forgotten_at=None)]
        for account in accounts:
            imported += _import_bill(account, until)
    return imported


def _operators_accounts() -> list[BackendStanding]:
    backends = Deployment.objects.in_account(None).order_by().values_list("backend", flat=True).distinct()
    return [BackendStanding.objects.get_or_create(backend=backend)[0] for backend in backends]


def _import_bill(account: Account | BackendStanding, until: datetime.datetime) -> Imported:
    ref = account.ref if isinstance(account, Account) else None
    since = max(min(account.bill_read_until or until, until) - READ_AGAIN, until - LONGEST_READ)
    try:
        lines = async_to_sync(_read)(account.backend, since, until, ref)
    except BackendError as problem:
        # What passes is made up for by the next reading, which begins where the last one ended.
        if problem.permanent and account.note_bill_problem(problem.sentence):
            log.warning("bill.not_read", account=str(account), problem=problem.sentence)
        return Imported()
    imported = keep_bill(account.backend, lines, ref)
    account.note_bill_read(until)
    return imported


async def _read(
    name: str, since: datetime.datetime, until: datetime.datetime, account: AccountRef | None
) -> Sequence[BilledCost]:
    async with make_backend(name) as backend:
        return await backend.costs(since, until, account)


# --- keeping ---------------------------------------------------------------------------------------------------------
def keep_bill(backend: str, lines: Iterable[BilledCost], account: AccountRef | None) -> Imported:
    """Keep what was told of each hour, as the operator."""
    hours: dict[tuple[str, str, datetime.datetime], dict[str, int]] = {}
    for line in lines:
        if account is not None and line.tenant_id != account.tenant_id:
            continue  # In an account of its own a tenant writes what labels it likes: they speak of itself alone.
        hour = hours.setdefault((line.tenant_id, line.deployment_name, line.since), {})
        hour[line.key] = hour.get(line.key, 0) + line.nano_dollars
    known = _known_since(min((begins_at for _, _, begins_at in hours), default=timezone.now()))
    imported = Imported()
    for (tenant_id, name, begins_at), told in hours.items():
        if told.items() <= known.get((tenant_id, name, begins_at), {}).items():
            continue  # as nearly all that is read again
        named = _deployments_of(tenant_id, name)
        deployment = _standing_in(named, account, begins_at)
        if deployment is None and named.exists():
            continue  # It stands in another account, on whose bill it is: two of them may be one workspace.
        owner = deployment.tenant_id if deployment else _owner_of_unknown(tenant_id)
        if owner is None:
            log.warning("bill.of_nobody", deployment=name, hour=begins_at.isoformat(), nano_dollars=sum(told.values()))
            continue
        if _keep_hour(backend, owner, name, begins_at, told, deployment):
            imported += Imported(1, int(deployment is None))
    return imported


def _known_since(begins_at: datetime.datetime) -> dict[tuple[str, str, datetime.datetime], dict[str, int]]:
    """Return the lines that are known of hours from a time on, by tenant, name and beginning."""
    rows = BilledHour.objects.filter(begins_at__gte=begins_at).order_by()
    return {
        (str(tenant_id), name, begins_at): lines
        for tenant_id, name, begins_at, lines in rows.values_list("tenant_id", "deployment_name", "begins_at", "lines")
    }


def _keep_hour(
    backend: str,
    tenant_id: uuid.UUID,
    name: str,
    begins_at: datetime.datetime,
    told: dict[str, int],
    deployment: Deployment | None,
) -> bool:
    with atomic():
        hour, _ = BilledHour.objects.select_for_update().get_or_create(
            tenant_id=tenant_id,
            deployment_name=name[:64],
            begins_at=begins_at,
            defaults={"backend": backend, "deployment": deployment},
        )
        is_news = hour.take_lines(told)
        if is_news:
            hour.save()
    if is_news and hour.deployment_id is None:
        log.warning("bill.of_unknown_deployment", deployment=name, hour=begins_at.isoformat(), tenant=str(tenant_id))
    return is_news


def _deployments_of(tenant_id: str, name: str) -> DeploymentQuerySet:
    found: DeploymentQuerySet = Deployment.objects.all()
    return found.filter(tenant_id=tenant_id, name=name) if _is_id(tenant_id) else found.none()


def _standing_in(
    named: DeploymentQuerySet, account: AccountRef | None, begins_at: datetime.datetime
) -> Deployment | None:
    """Return the last deployment that bore a name in an account by the end of an hour: names are used again."""
    made = named.in_account(account).filter(created_at__lt=begins_at + datetime.timedelta(hours=1))
    found: Deployment | None = made.order_by("-created_at").first()
    return found


def _owner_of_unknown(tenant_id: str) -> uuid.UUID | None:
    """Return whose a line is that no deployment is known for: its label's, else the operator's own tenant."""
    tenants = Tenant.objects.order_by()
    if _is_id(tenant_id) and (labelled := tenants.filter(pk=tenant_id).first()):
        return labelled.pk
    house = tenants.filter(is_house=True).first()
    return house.pk if house else None


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def bill_problems() -> list[str]:
    """Return what keeps bills from being read, of all accounts, as the operator."""
    standings = [*BackendStanding.objects.exclude(bill_problem=""), *Account.objects.exclude(bill_problem="")]
    return list(dict.fromkeys(each.bill_problem for each in standings))


def bill_problem_of(tenant: Tenant, backend: str) -> str:
    """Return what keeps the bill from being read of the account that a tenant's pools stand in, in the entered tenant.

    How the operator's own account stands is told in the operator's own tenant alone.
    """
    if backend in OWN_ACCOUNTS and (account := Account.objects.of_backend(backend).in_use().first()):
        return account.bill_problem
    standing = BackendStanding.objects.filter(backend=backend).first() if tenant.is_house else None
    return standing.bill_problem if standing else ""
