"""What a tenant pays for: plans, subscriptions, and the ledger of what was sold. Payments: billing.payments."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from billing.caps import Caps
from billing.partners import Affiliate, AffiliateEarning, AffiliatePayout, Referral
from billing.payments import BillingPeriod, Invoice, Notice, OverageReport, Refund, StripeEvent
from tenants.models import Tenant
from tenants.ownership import TenantManager, TenantOwned, TenantQuerySet

WITHOUT_HUNDREDTHS = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf bhd jod kwd omr tnd".split()
)
"""Currencies that Stripe counts whole, or in thousandths."""


class PlanQuerySet(models.QuerySet):
    def public(self) -> PlanQuerySet:
        return self.filter(is_public=True)

    def offered_to(self, tenant_id: uuid.UUID) -> PlanQuerySet:
        """What a tenant may choose: the public plans, and those made for it."""
        return self.filter(models.Q(is_public=True) | models.Q(reserved_for=tenant_id), monthly_price_cents__gt=0)


class Plan(models.Model):
    """A price and what it entitles to. Operators change plans; the application only reads them."""

    operator_writes = True

    slug = models.SlugField(primary_key=True, max_length=40)
    name = models.CharField(max_length=60)
    position = models.PositiveSmallIntegerField(default=0)
    is_public = models.BooleanField(default=True, help_text="Shown on the pricing page.")
    reserved_for = models.ForeignKey(
        Tenant,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        db_constraint=False,  # plans outlive tenants
        related_name="+",
        help_text="A plan for this tenant alone; it is not public.",
    )
    currency = models.CharField(
        max_length=3,
        default="usd",
        validators=[RegexValidator("^[a-z]{3}$", "Three small letters, as in usd.")],
        help_text="Of all its prices, by ISO 4217 in small letters.",
    )
    monthly_price_cents = models.PositiveIntegerField(help_text="Hundredths of the currency.")
    trial_days = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Ends by itself after so many days.")
    max_agents = models.PositiveIntegerField()
    max_concurrent_calls = models.PositiveIntegerField()
    included_minutes = models.PositiveIntegerField()
    overage_cents_per_minute = models.PositiveIntegerField(help_text="0: calls stop at the included minutes.")
    max_regions = models.PositiveSmallIntegerField()
    max_warm_containers = models.PositiveSmallIntegerField()
    max_numbers = models.PositiveIntegerField(verbose_name="telephone numbers")
    retention_days = models.PositiveSmallIntegerField()
    regulated = models.BooleanField(default=False, help_text="May hold regulated data.")
    support = models.CharField(max_length=80)
    # Kept by `manage.py sync_plans`. An operator may enter the price of a plan that Stripe has already.
    stripe_product_id = models.CharField(max_length=255, blank=True)
    stripe_price_id = models.CharField(max_length=255, blank=True)
    stripe_overage_price_id = models.CharField(max_length=255, blank=True)

    objects = PlanQuerySet.as_manager()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(reserved_for=None) | models.Q(is_public=False), name="reserved_plan_is_not_public"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.currency in WITHOUT_HUNDREDTHS:
            raise ValidationError({"currency": "Amounts here are hundredths, which this currency has not."})
        if self.is_public and self.reserved_for_id is not None:
            raise ValidationError({"reserved_for": "A plan for one tenant is not public: clear one of the two."})

    @property
    def has_overage(self) -> bool:
        """Whether calls go on beyond the included minutes, at a price."""
        return self.overage_cents_per_minute > 0

    @property
    def is_for_sale(self) -> bool:
        """Whether Stripe knows its prices."""
        return bool(self.stripe_price_id) and (bool(self.stripe_overage_price_id) or not self.has_overage)


class SubscriptionQuerySet(TenantQuerySet):
    def ending(self) -> SubscriptionQuerySet:
        """Those whose owners may have to be told something: a trial or a grace that ends."""
        return self.filter(
            models.Q(status=Subscription.Status.TRIALING, trial_ends_at__gt=Now())
            | models.Q(status=Subscription.Status.PAST_DUE)
        )


class Subscription(TenantOwned):
    """Which plan a tenant is on, and whether it may place calls.

    `calls_end_at` is the one rule of that. The database works it out, so that pages and the gateway's admission read
    the same: no call begins from then on; NULL where no end is known.
    """

    class Status(models.TextChoices):
        TRIALING = "trialing"
        ACTIVE = "active"
        PAST_DUE = "past_due"
        CANCELLED = "cancelled"

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    next_plan = models.ForeignKey(
        Plan,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Chosen during the trial; it begins when the trial ends.",
    )
    status = models.CharField(max_length=12, choices=Status.choices)
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    period_started_at = models.DateTimeField(default=timezone.now)
    period_ends_at = models.DateTimeField(null=True, blank=True)
    grace_ends_at = models.DateTimeField(null=True, blank=True, help_text="Past due: calls are refused from then on.")
    cancels_at = models.DateTimeField(null=True, blank=True, help_text="Cancelled as of then; it goes on until then.")
    ended_at = models.DateTimeField(null=True, blank=True)
    stripe_customer_id = models.CharField(max_length=255, blank=True)
    stripe_subscription_id = models.CharField(max_length=255, blank=True)
    synced_at = models.DateTimeField(null=True, blank=True, help_text="When Stripe was last asked about it.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    calls_end_at = models.GeneratedField(
        expression=models.Case(
            # Where Stripe keeps the trial, Stripe says what follows it.
            models.When(status="trialing", stripe_subscription_id="", then=models.F("trial_ends_at")),
            models.When(status="past_due", then=models.F("grace_ends_at")),
            models.When(status="cancelled", then=Coalesce(models.F("ended_at"), models.F("created_at"))),
            default=None,
        ),
        output_field=models.DateTimeField(null=True),
        db_persist=True,
    )

    objects = TenantManager.from_queryset(SubscriptionQuerySet)()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="one_subscription_per_tenant"),
            models.UniqueConstraint(
                fields=["stripe_customer_id"],
                condition=~models.Q(stripe_customer_id=""),
                name="one_tenant_per_stripe_customer",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} ({self.status})"

    @property
    def calls_have_ended(self) -> bool:
        return self.calls_end_at is not None and self.calls_end_at <= timezone.now()

    @property
    def is_billed_by_stripe(self) -> bool:
        """Whether there is a subscription at Stripe that has not ended."""
        return bool(self.stripe_subscription_id) and self.status != self.Status.CANCELLED


class UsageQuerySet(TenantQuerySet):
    def total(self, kind: str) -> int:
        return self.filter(kind=kind).aggregate(total=models.Sum("quantity"))["total"] or 0


class Usage(TenantOwned):
    """The ledger of what was sold. A correction is a further entry, with a negative quantity."""

    class Kind(models.TextChoices):
        CALL_SECONDS = "call_seconds", "Seconds of conversation"

    append_only: ClassVar[bool] = True

    kind = models.CharField(max_length=20, choices=Kind.choices)
    quantity = models.BigIntegerField()
    call_id = models.UUIDField(null=True)
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)
    idempotency_key = models.CharField(max_length=120)

    objects = TenantManager.from_queryset(UsageQuerySet)()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "idempotency_key"], name="usage_once_per_key")]
        indexes = [
            models.Index(fields=["tenant", "kind", "occurred_at"], name="usage_by_time"),
            models.Index(fields=["tenant", "recorded_at"], name="usage_by_record"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} {self.kind}"


class LedgerSeal(TenantOwned):
    """A link of a tenant's chain: what one ledger recorded in a stretch of time, digested. See billing.sealing."""

    append_only: ClassVar[bool] = True

    ledger = models.CharField(max_length=12)
    number = models.PositiveIntegerField(help_text="From 1, without gaps.")
    since = models.DateTimeField(help_text="Entries recorded at this time or later …")
    until = models.DateTimeField(help_text="… and before this one.")
    entries = models.PositiveIntegerField()
    total = models.BigIntegerField(help_text="The sum of the entries' amounts.")
    digest = models.CharField(max_length=64, help_text="SHA-256 over the digest before it and the entries.")
    sealed_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["ledger", "number"]
        constraints = [models.UniqueConstraint(fields=["tenant", "ledger", "number"], name="one_chain_per_ledger")]

    def __str__(self) -> str:
        return f"Seal {self.number} of the {self.ledger} ledger"


__all__ = [
    "Affiliate",
    "AffiliateEarning",
    "AffiliatePayout",
    "BillingPeriod",
    "Caps",
    "Invoice",
    "LedgerSeal",
    "Notice",
    "OverageReport",
    "Plan",
    "Referral",
    "Refund",
    "StripeEvent",
    "Subscription",
    "Usage",
]
