"""The journeys of affiliates: joining, bringing a tenant, earning, and being paid.

What affiliates earned lies beyond the application's reach, as it is made from the invoices of all tenants: it is read
and written in the operator's scope, for one affiliate at a time.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterable

import structlog
from django.db.models import Count
from django.utils import timezone

from billing.models import Invoice, Refund
from billing.partners import Affiliate, AffiliateEarning, AffiliatePayout, Referral, month_of
from tenants import audit
from tenants.models import Membership, User
from tenants.scope import atomic, enter_operator

log = structlog.get_logger(__name__)


class PayoutRefused(ValueError):
    """This statement is not to be marked as paid. Its message is for the operator."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """What an affiliate earned in one month (UTC) and currency. `paid`: when it was paid, if it was."""

    affiliate: Affiliate
    month_date: datetime.date
    currency: str
    invoices: int
    refunds: int
    base_cents: int
    earned_cents: int
    payout: AffiliatePayout | None

    @property
    def is_over(self) -> bool:
        return self.month_date < month_of(timezone.now())

    @property
    def is_due(self) -> bool:
        """Whether money is owed: the month is over, something was earned, and nothing was paid."""
        return self.is_over and self.payout is None and self.earned_cents > 0


def join(*, user: User) -> Affiliate:
    """Make somebody an affiliate; who is one already stays what they are."""
    affiliate, _ = Affiliate.objects.get_or_create(user=user)
    return affiliate


def refer(*, code: str, owner: User | None) -> Referral | None:
    """Attribute the entered tenant to the affiliate of a link, once; None where that is nobody, or its own owner."""
    affiliate = Affiliate.objects.select_related("user").filter(code=code[:20], is_active=True).first()
    if affiliate is None or Referral.objects.exists():
        return None
    if owner is not None and _is_one_person(affiliate.user, owner):
        log.info("referral.refused", affiliate=affiliate.code)
        return None
    referral = Referral.objects.create(affiliate=affiliate)
    audit.record(action="tenant.referred", target=affiliate.code)
    return referral


def _is_one_person(one: User, other: User) -> bool:
    return one.pk == other.pk or _mailbox(one.email) == _mailbox(other.email)


def _mailbox(email: str) -> tuple[str, str]:
    """Return where mail to an address ends up, as far as the address tells: without case and without `+tag`."""
    local, _, domain = email.lower().rpartition("@")
    return local.split("+")[0], domain


# --- earning ---------------------------------------------------------------------------------------------------------
def collect_earnings() -> int:
    """Enter a share of each invoice that was paid, and of each refund, that is not entered yet; return how many."""
    with enter_operator("beat", reason="enter affiliates' earnings"):
        referrals = {each.tenant_id: each.affiliate for each in Referral.objects.select_related("affiliate__user")}
        if not referrals:
            return 0
        known = set(AffiliateEarning.objects.filter(brought_id__in=referrals).values_list("key", flat=True))
        owned = set(Membership.objects.filter(tenant_id__in=referrals).values_list("tenant_id", "user_id"))
        entries = [
            entry
            for entry in _entries(referrals)
            if entry.key not in known and (entry.brought_id, entry.affiliate.user_id) not in owned
        ]
        with atomic():
            # No statement is marked as paid between choosing its month and entering it.
            paid = _paid_statements({entry.affiliate_id for entry in entries})
            for entry in entries:
                entry.month_date = month_of(entry.occurred_at)
                if (entry.affiliate_id, entry.month_date, entry.currency) in paid:
                    entry.month_date = month_of(timezone.now())
            AffiliateEarning.objects.bulk_create(entries, ignore_conflicts=True)
        return len(entries)


def _paid_statements(affiliate_ids: set[int]) -> set[tuple[int, datetime.date, str]]:
    locked = list(Affiliate.objects.select_for_update().filter(pk__in=affiliate_ids).order_by("pk"))
    payouts = AffiliatePayout.objects.filter(affiliate__in=locked)
    return set(payouts.values_list("affiliate_id", "month_date", "currency"))


def _entries(referrals: dict[uuid.UUID, Affiliate]) -> Iterable[AffiliateEarning]:
    paid = Invoice.objects.filter(tenant_id__in=referrals, status=Invoice.Status.PAID, amount_paid_cents__gt=0)
    for invoice in paid:
        base_cents = _without_tax(invoice.amount_paid_cents, invoice)
        at = invoice.paid_at or invoice.created_at
        yield _earning(referrals[invoice.tenant_id], invoice, f"invoice:{invoice.stripe_id}", base_cents, at)
    refunds = Refund.objects.filter(tenant_id__in=referrals, status="succeeded").select_related("invoice")
    for refund in refunds:
        base_cents = -_without_tax(refund.amount_cents, refund.invoice)
        affiliate = referrals[refund.tenant_id]
        yield _earning(affiliate, refund.invoice, f"refund:{refund.stripe_id}", base_cents, refund.created_at)


def _earning(
    affiliate: Affiliate, invoice: Invoice, key: str, base_cents: int, at: datetime.datetime
) -> AffiliateEarning:
    return AffiliateEarning(
        affiliate=affiliate,
        brought_id=invoice.tenant_id,
        key=key,
        currency=invoice.currency,
        base_cents=base_cents,
        share_percent=affiliate.share_percent,
        earned_cents=share_of(base_cents, affiliate.share_percent),
        occurred_at=at,
    )


def _without_tax(cents: int, invoice: Invoice) -> int:
    """Return the part of an amount of an invoice that is no tax, rounded half up."""
    if not invoice.tax_cents or not invoice.total_cents:
        return cents
    return _rounded(cents * (invoice.total_cents - invoice.tax_cents), invoice.total_cents)


def share_of(cents: int, percent: int) -> int:
    """Return a share in whole cents, rounded half away from zero: a refund takes back what was earned."""
    sign = -1 if cents < 0 else 1
    return sign * _rounded(abs(cents) * percent, 100)


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


# --- statements ------------------------------------------------------------------------------------------------------
def statements_of(affiliate: Affiliate) -> list[Statement]:
    """Return an affiliate's months in which something was earned or given back, newest first."""
    with enter_operator(affiliate.code, reason="read an affiliate's statements"):
        return _statements([affiliate])


def all_statements() -> list[Statement]:
    """Return the statements of all affiliates, newest first. Runs in the operator's scope."""
    return _statements(list(Affiliate.objects.select_related("user")))


def _statements(affiliates: list[Affiliate]) -> list[Statement]:
    by_id = {affiliate.pk: affiliate for affiliate in affiliates}
    payouts = {
        (each.affiliate_id, each.month_date, each.currency): each
        for each in AffiliatePayout.objects.filter(affiliate__in=affiliates).select_related("paid_by")
    }
    sums: dict[tuple[int, datetime.date, str], list[AffiliateEarning]] = {}
    for earning in AffiliateEarning.objects.filter(affiliate__in=affiliates):
        sums.setdefault((earning.affiliate_id, earning.month_date, earning.currency), []).append(earning)
    return [
        Statement(
            affiliate=by_id[key[0]],
            month_date=key[1],
            currency=key[2],
            invoices=sum(earning.base_cents >= 0 for earning in earnings),
            refunds=sum(earning.base_cents < 0 for earning in earnings),
            base_cents=sum(earning.base_cents for earning in earnings),
            earned_cents=sum(earning.earned_cents for earning in earnings),
            payout=payouts.get(key),
        )
        for key, earnings in sorted(sums.items(), key=lambda item: (item[0][1], item[0][0], item[0][2]), reverse=True)
    ]


def mark_paid(
    *, affiliate: Affiliate, month_date: datetime.date, currency: str, reference: str, actor: User
) -> AffiliatePayout:
    """Write down that a statement was paid. Runs in the operator's scope.

    Raises:
        PayoutRefused: its month is not over, nothing is owed, or it was paid before.
    """
    with atomic():
        Affiliate.objects.select_for_update().get(pk=affiliate.pk)
        statement = next(
            (each for each in _statements([affiliate]) if (each.month_date, each.currency) == (month_date, currency)),
            None,
        )
        if statement is None or not statement.is_due:
            raise PayoutRefused(_why_not_due(statement))
        return AffiliatePayout.objects.create(
            affiliate=affiliate,
            month_date=month_date,
            currency=currency,
            cents=statement.earned_cents,
            reference=reference.strip()[:120],
            paid_by=actor,
        )


def _why_not_due(statement: Statement | None) -> str:
    if statement is None or statement.earned_cents <= 0:
        return "Nothing is owed for this month."
    if statement.payout is not None:
        return f"This statement was marked as paid on {statement.payout.paid_at:%-d %B %Y}."
    return "This month is not over: more may be earned in it, or given back."


@dataclasses.dataclass(frozen=True)
class Brought:
    """What came of an affiliate's link: how many tenants, and how many of them have paid."""

    tenants: int
    paying: int


def brought_by(affiliate: Affiliate) -> Brought:
    with enter_operator(affiliate.code, reason="count what an affiliate brought"):
        paid = AffiliateEarning.objects.filter(affiliate=affiliate, base_cents__gt=0)
        return Brought(
            tenants=Referral.objects.filter(affiliate=affiliate).count(),
            paying=paid.aggregate(count=Count("brought_id", distinct=True))["count"],
        )


def owed_cents(statements: Iterable[Statement]) -> dict[str, int]:
    """Return what is due by currency."""
    owed: dict[str, int] = {}
    for statement in statements:
        if statement.is_due:
            owed[statement.currency] = owed.get(statement.currency, 0) + statement.earned_cents
    return owed
