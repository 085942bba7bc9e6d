"""What was earned against what was spent, by tenant, agent, plan and day. Runs in the operator's scope.

Costs and seconds are those of voice.ledger_days. Earned is not invoiced: a day earns a 365th of twelve monthly prices
while its tenant is subscribed, and each minute beyond the included ones on the day on which it was talked. A tenant's
day is shared among its agents by their seconds. Amounts are nano-dollars; plans in other currencies earn nothing here.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Hashable, Iterable
from fractions import Fraction

from agents.models import Agent
from billing.models import BillingPeriod, Subscription
from provisioning.costs import split_exactly
from provisioning.models import CostEntry
from tenants.models import Tenant
from voice.models import LedgerDay

NANO_DOLLARS_A_CENT = 10_000_000
PARTS = [str(part) for part in CostEntry.Part]
NOBODY = "–"

Day = tuple[uuid.UUID, datetime.date]


@dataclasses.dataclass
class Line:
    """One row of the statement. `costs`: by part of a cost."""

    name: str
    earned: int = 0
    seconds: int = 0
    costs: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(PARTS, 0))

    @property
    def spent(self) -> int:
        return sum(self.costs.values())

    @property
    def margin(self) -> int:
        return self.earned - self.spent

    @property
    def share(self) -> float | None:
        """Of what was earned."""
        return self.margin / self.earned if self.earned else None

    def add(self, earned: int, seconds: int, costs: dict[str, int]) -> None:
        self.earned += earned
        self.seconds += seconds
        for part, amount in costs.items():
            self.costs[part] += amount


@dataclasses.dataclass(frozen=True)
class Margin:
    """A statement: its lines, and their sum."""

    lines: list[Line]
    total: Line
    other_currencies: list[str]
    """Of plans whose price could not be compared."""


@dataclasses.dataclass
class _AgentDay:
    seconds: int = 0
    costs: dict[str, int] = dataclasses.field(default_factory=dict)


def margin_of(since: datetime.date, until: datetime.date, *, by: str) -> Margin:
    """Return the statement of the days from `since` up to and with `until`.

    Args:
        by: "tenant", "agent", "plan" or "day".
    """
    subscriptions = {each.tenant_id: each for each in Subscription.objects.select_related("plan")}
    tenants = {tenant.pk: tenant for tenant in Tenant.objects.filter(is_house=False)}
    periods: dict[uuid.UUID, list[BillingPeriod]] = {}
    for period in BillingPeriod.objects.filter(ends_at__date__gte=since, starts_at__date__lte=until):
        periods.setdefault(period.tenant_id, []).append(period)
    first_needed = min([since, *(each.starts_at.date() for those in periods.values() for each in those)])
    days = _agent_days(first_needed, until)
    names = _names(tenants, subscriptions)[by]
    lines: dict[Hashable, Line] = {}
    total = Line("All")
    for tenant_id in tenants:
        subscription = subscriptions.get(tenant_id)
        beyond = _beyond(days, tenant_id, periods.get(tenant_id, []))
        for day in _days(since, until):
            agents = days.get((tenant_id, day), {})
            earned = _earned(subscription, periods.get(tenant_id, []), day, beyond.get(day, 0))
            if not agents and not earned:
                continue
            shares = _shared(earned, agents)
            for agent_id in agents.keys() | shares.keys():
                found = agents.get(agent_id, _AgentDay())
                key, name = names(tenant_id, agent_id, day)
                for line in (lines.setdefault(key, Line(name)), total):
                    line.add(shares.get(agent_id, 0), found.seconds, found.costs)
    ordered = sorted(lines.values(), key=lambda line: line.name if by == "day" else line.margin)
    odd = {each.plan.currency for each in subscriptions.values() if each.plan.currency != "usd"}
    return Margin(ordered, total, sorted(odd))


def _names(
    tenants: dict[uuid.UUID, Tenant], subscriptions: dict[uuid.UUID, Subscription]
) -> dict[str, Callable[[uuid.UUID, uuid.UUID | None, datetime.date], tuple[Hashable, str]]]:
    """Return, for each way to add up, what a line's key and name are."""
    agents = dict(Agent.objects.values_list("pk", "name"))

    def plan_of(tenant_id: uuid.UUID) -> str:
        subscription = subscriptions.get(tenant_id)
        return subscription.plan.name if subscription else NOBODY

    return {
        "tenant": lambda tenant_id, agent_id, day: (tenant_id, tenants[tenant_id].name),
        "agent": lambda tenant_id, agent_id, day: (
            (tenant_id, agent_id),
            f"{tenants[tenant_id].name} · {agents.get(agent_id, 'no call')}",
        ),
        "plan": lambda tenant_id, agent_id, day: (plan_of(tenant_id), plan_of(tenant_id)),
        "day": lambda tenant_id, agent_id, day: (day, day.isoformat()),
    }


def _agent_days(since: datetime.date, until: datetime.date) -> dict[Day, dict[uuid.UUID | None, _AgentDay]]:
    found: dict[Day, dict[uuid.UUID | None, _AgentDay]] = {}
    rows = LedgerDay.objects.filter(day_date__gte=since, day_date__lte=until)
    for tenant_id, day, agent_id, ledger, kind, amount in rows.order_by().values_list(
        "tenant_id", "day_date", "agent_id", "ledger", "kind", "amount"
    ):
        agent_day = found.setdefault((tenant_id, day), {}).setdefault(agent_id, _AgentDay())
        if ledger == "usage":
            agent_day.seconds += amount
        else:
            agent_day.costs[kind] = agent_day.costs.get(kind, 0) + amount
    return found


def _days(since: datetime.date, until: datetime.date) -> Iterable[datetime.date]:
    return (since + datetime.timedelta(days=number) for number in range((until - since).days + 1))


def _earned(
    subscription: Subscription | None, periods: list[BillingPeriod], day: datetime.date, seconds_beyond: int
) -> int:
    """Return what a tenant's day earned, rounded once."""
    if subscription is None or subscription.plan.currency != "usd":
        return 0
    plan = subscription.plan
    earned = Fraction(seconds_beyond * plan.overage_cents_per_minute * NANO_DOLLARS_A_CENT, 60)
    if _is_subscribed(subscription, periods, day):
        earned += Fraction(12 * plan.monthly_price_cents * NANO_DOLLARS_A_CENT, 365)
    return round(earned)


def _is_subscribed(subscription: Subscription, periods: list[BillingPeriod], day: datetime.date) -> bool:
    if any(period.starts_at.date() <= day < period.ends_at.date() for period in periods):
        return True
    # A plan that the operator set has no periods at Stripe.
    is_set = not subscription.stripe_subscription_id and subscription.status == Subscription.Status.ACTIVE
    return is_set and subscription.period_started_at.date() <= day


def _beyond(
    days: dict[Day, dict[uuid.UUID | None, _AgentDay]], tenant_id: uuid.UUID, periods: list[BillingPeriod]
) -> dict[datetime.date, int]:
    """Return the seconds of each day that its period's minutes did not include, by whole days."""
    beyond: dict[datetime.date, int] = {}
    for period in periods:
        if period.included_seconds is None:
            continue
        used = 0
        for day in _days(period.starts_at.date(), period.ends_at.date() - datetime.timedelta(days=1)):
            before = max(0, used - period.included_seconds)
            used += sum(agent_day.seconds for agent_day in days.get((tenant_id, day), {}).values())
            beyond[day] = beyond.get(day, 0) + max(0, used - period.included_seconds) - before
    return beyond


def _shared(earned: int, agents: dict[uuid.UUID | None, _AgentDay]) -> dict[uuid.UUID | None, int]:
    """Share a day's earnings among agents by their seconds; where nobody talked they are no agent's."""
    talked = [agent_id for agent_id, each in agents.items() if each.seconds > 0]
    if not earned:
        return {}
    if not talked:
        return {None: earned}
    return dict(zip(talked, split_exactly(earned, [agents[agent_id].seconds for agent_id in talked]), strict=True))
