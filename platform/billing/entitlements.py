"""What a tenant may do, as its plan says: the one place that admission and pages ask."""

from __future__ import annotations

import dataclasses
import datetime

from django.utils import timezone

from billing.caps import Caps, allowed_seconds, caps_of, spend_cents, warning_seconds
from billing.models import Plan, Subscription, Usage
from tenants.models import Tenant
from tenants.ownership import entered_tenant_id


@dataclasses.dataclass(frozen=True)
class Entitlements:
    """Limits of the plan, and how much of the period is used. `refusal`: why no call may begin, or None."""

    plan: Plan
    status: str
    agents: int
    concurrent_calls: int
    included_minutes: int
    used_seconds: int
    overage_cents_per_minute: int
    regions: int
    warm_containers: int
    numbers: int
    """Of telephones."""
    retention_days: int
    regulated: bool
    trial_ends_at: datetime.datetime | None
    period_started_at: datetime.datetime
    allowed_seconds: int | None
    """Of conversation in this period: at the plan's or the tenant's own end calls stop. None: they do not."""
    warning_seconds: int | None
    """After so many the owners are warned; None: never."""
    refusal: str | None

    @property
    def used_minutes(self) -> int:
        return self.used_seconds // 60

    @property
    def left_seconds(self) -> int | None:
        return None if self.allowed_seconds is None else self.allowed_seconds - self.used_seconds

    @property
    def left_minutes(self) -> int | None:
        return None if self.left_seconds is None else max(0, self.left_seconds) // 60

    @property
    def spend_cents(self) -> int:
        """For minutes beyond the included ones."""
        return spend_cents(self.plan, self.used_seconds)

    @property
    def is_used_up(self) -> bool:
        return self.left_seconds is not None and self.left_seconds <= 0

    @property
    def is_past_soft_cap(self) -> bool:
        return self.warning_seconds is not None and self.used_seconds >= self.warning_seconds


def entitlements_of() -> Entitlements:
    """Return what the entered tenant may do now."""
    tenant = Tenant.objects.get(pk=entered_tenant_id())
    subscription = Subscription.objects.select_related("plan").get()
    plan, caps = subscription.plan, caps_of()
    used_seconds = Usage.objects.filter(occurred_at__gte=subscription.period_started_at).total(Usage.Kind.CALL_SECONDS)
    return Entitlements(
        plan=plan,
        status=subscription.status,
        agents=plan.max_agents,
        concurrent_calls=plan.max_concurrent_calls,
        included_minutes=plan.included_minutes,
        used_seconds=used_seconds,
        overage_cents_per_minute=plan.overage_cents_per_minute,
        regions=plan.max_regions,
        warm_containers=plan.max_warm_containers,
        numbers=plan.max_numbers,
        retention_days=plan.retention_days,
        regulated=plan.regulated,
        trial_ends_at=subscription.trial_ends_at,
        period_started_at=subscription.period_started_at,
        allowed_seconds=allowed_seconds(plan, caps),
        warning_seconds=warning_seconds(plan, caps),
        refusal=_refusal(tenant, subscription, used_seconds, caps),
    )


def _refusal(tenant: Tenant, subscription: Subscription, used_seconds: int, caps: Caps | None) -> str | None:
    """See also: the gateway's admission statement (voice), which decides the same in one round trip."""
    plan = subscription.plan
    if tenant.is_suspended:
        return "This account is suspended."
    if subscription.calls_have_ended:
        return why_calls_ended(subscription)
    if plan.overage_cents_per_minute == 0 and used_seconds >= plan.included_minutes * 60:
        return "The plan's minutes are used up."
    allowed = allowed_seconds(plan, caps)
    if allowed is not None and used_seconds >= allowed:
        return "The limit that you have set for this period is reached: raise it to go on."
    return None


def why_calls_ended(subscription: Subscription) -> str:
    """Return what the subscription waits for, now that no call may begin."""
    if subscription.status == Subscription.Status.TRIALING:
        return f"The trial ended on {timezone.localtime(subscription.trial_ends_at):%-d %B}: choose a plan to go on."
    if subscription.status == Subscription.Status.PAST_DUE:
        return "An invoice is unpaid: pay it to go on."
    return "The subscription was cancelled: choose a plan to go on."
