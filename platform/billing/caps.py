"""Caps: how far a tenant lets a billing period go. A soft cap warns, a hard one stops calls.

What counts is what the tenant pays: minutes of conversation as the usage ledger has them, by the second; and money for
minutes beyond the plan's included ones, at the plan's price. The plan's own monthly price does not count, for it is
paid anyway. All caps come down to seconds of conversation, and the lowest decides.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.db import models
from django.utils import timezone

from tenants import audit
from tenants.models import Membership, Tenant, User
from tenants.ownership import TenantOwned, entered_tenant_id
from tenants.scope import enter_operator, enter_tenant

if TYPE_CHECKING:
    from billing.models import Plan


log = structlog.get_logger(__name__)


class Caps(TenantOwned):
    """A tenant's caps; empty ones are none."""

    soft_minutes = models.PositiveIntegerField(null=True, blank=True)
    hard_minutes = models.PositiveIntegerField(null=True, blank=True)
    soft_spend_cents = models.PositiveIntegerField(null=True, blank=True)
    hard_spend_cents = models.PositiveIntegerField(null=True, blank=True)
    warned_of = models.DateTimeField(null=True, help_text="The start of the period whose soft cap was told by mail.")
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "caps"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="one_row_of_caps_per_tenant")]

    def __str__(self) -> str:
        return f"Caps of {self.tenant_id}"

    def clean(self) -> None:
        for soft, hard, what in (
            (self.soft_minutes, self.hard_minutes, "soft_minutes"),
            (self.soft_spend_cents, self.hard_spend_cents, "soft_spend_cents"),
        ):
            if soft is not None and hard is not None and soft > hard:
                raise ValidationError({what: "Warn at or below the hard cap: calls stop before this is reached."})


ALLOWED_SECONDS_SQL = """LEAST(
    CASE WHEN plan.overage_cents_per_minute = 0 THEN 60::bigint * plan.included_minutes END,
    60::bigint * caps.hard_minutes,
    CASE WHEN plan.overage_cents_per_minute > 0
        THEN 60::bigint * plan.included_minutes + 60::bigint * caps.hard_spend_cents / plan.overage_cents_per_minute END
)"""
"""What `allowed_seconds` returns, of a `plan` and the `caps` joined to it. PostgreSQL's LEAST passes over NULLs."""


def allowed_seconds(plan: Plan, caps: Caps | None) -> int | None:
    """Return how many seconds of conversation a period may have; None: as many as it likes."""
    own = 60 * plan.included_minutes if plan.overage_cents_per_minute == 0 else None
    return _lowest(own, _seconds(plan, caps.hard_minutes, caps.hard_spend_cents) if caps else None)


def warning_seconds(plan: Plan, caps: Caps | None) -> int | None:
    """Return after how many seconds of conversation the owners are to be warned; None: never."""
    return _seconds(plan, caps.soft_minutes, caps.soft_spend_cents) if caps else None


def spend_cents(plan: Plan, used_seconds: int) -> int:
    """Return the price of a period's seconds beyond the included ones, rounded half up once."""
    return (2 * max(0, used_seconds - 60 * plan.included_minutes) * plan.overage_cents_per_minute + 60) // 120


def _seconds(plan: Plan, minutes: int | None, cents: int | None) -> int | None:
    by_minutes = None if minutes is None else 60 * minutes
    # Without a price for further minutes nothing is ever spent on them.
    by_spend = (
        None
        if cents is None or not plan.overage_cents_per_minute
        else 60 * plan.included_minutes + 60 * cents // plan.overage_cents_per_minute
    )
    return _lowest(by_minutes, by_spend)


def _lowest(*seconds: int | None) -> int | None:
    return min((each for each in seconds if each is not None), default=None)


def caps_of() -> Caps | None:
    """Return the entered tenant's caps."""
    return Caps.objects.first()


def set_caps(*, actor: User, **limits: int | None) -> Caps:
    """Set the entered tenant's caps: soft_minutes, hard_minutes, soft_spend_cents, hard_spend_cents.

    Raises:
        ValidationError
    """
    caps = caps_of() or Caps(tenant_id=entered_tenant_id())
    before = {name: getattr(caps, name) for name in limits}
    for name, value in limits.items():
        setattr(caps, name, value)
    caps.clean()
    caps.changed_at = timezone.now()
    # Whoever sets another soft cap wants to be told of that one, too.
    if any(before[name] != value for name, value in limits.items() if name.startswith("soft_")):
        caps.warned_of = None
    caps.save()
    changed = {name: value for name, value in limits.items() if value != before[name]}
    audit.record(action="caps.changed", target="monthly limits", actor=actor, details=changed)
    return caps


def tenants_to_warn() -> list[uuid.UUID]:
    """Return the tenants that have a soft cap. As the operator."""
    has_soft_cap = models.Q(soft_minutes__isnull=False) | models.Q(soft_spend_cents__isnull=False)
    with enter_operator("beat", reason="soft caps"):
        return list(Caps.objects.filter(has_soft_cap).values_list("tenant_id", flat=True))


def warn_owners_of(tenant_id: uuid.UUID) -> bool:
    """Enter a tenant and warn its owners; a mail that cannot be sent is tried again the next time."""
    try:
        with enter_tenant(tenant_id):
            return warn_owners()
    except OSError:  # the mail server's
        log.exception("caps.not_warned", tenant_id=str(tenant_id))
        return False


def warn_owners() -> bool:
    """Mail the entered tenant's owners that a soft cap is passed, once a period; return whether it was done now."""
    from billing.entitlements import entitlements_of

    caps, entitled = caps_of(), entitlements_of()
    if caps is None or not entitled.is_past_soft_cap or caps.warned_of == entitled.period_started_at:
        return False
    tenant = Tenant.objects.get(pk=entered_tenant_id())
    owners = [each.user.email for each in Membership.objects.owners().select_related("user")]
    send_mail(*_mail(tenant, entitled), None, owners, fail_silently=False)
    caps.warned_of = entitled.period_started_at
    caps.save(update_fields=["warned_of"])
    audit.record(action="caps.warned", target="monthly limits", details={"used_minutes": entitled.used_minutes})
    return True


def _mail(tenant: Tenant, entitled: Any) -> tuple[str, str]:
    stops = (
        "Calls do not stop: you have set no hard cap."
        if entitled.left_seconds is None
        else f"Calls stop in {max(0, entitled.left_seconds) // 60:,} minutes of conversation."
    )
    began = timezone.localtime(entitled.period_started_at, ZoneInfo(tenant.time_zone))
    body = (
        f"{tenant.name} has used {entitled.used_minutes:,} minutes of conversation since "
        f"{began:%-d %B}, which is past the limit that you wanted to be told "
        f"of. Minutes beyond the plan's cost ${entitled.spend_cents / 100:,.2f} so far.\n\n{stops}\n\n"
        f"See and change your limits: {settings.PUBLIC_URL}/t/{tenant.slug}/limits/\n"
    )
    return f"{tenant.name} has passed its monthly limit for warnings", body
