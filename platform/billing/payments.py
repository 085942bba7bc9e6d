"""What Stripe told us, and what we told it: events, periods, invoices, refunds, overage, and the mails about them.

Amounts are integers of the currency's hundredths ("cents"), as Stripe counts them, and each stands beside its currency.
"""

from __future__ import annotations

import datetime
from typing import ClassVar

from django.db import models
from django.utils import timezone

from tenants.ownership import TenantForeignKey, TenantManager, TenantOwned, TenantQuerySet


class StripeEventQuerySet(models.QuerySet):
    def unprocessed(self) -> StripeEventQuerySet:
        return self.filter(processed_at=None)


class StripeEvent(models.Model):
    """A webhook as it came, signature checked. It is stored before anything is made of it, and can be replayed."""

    operator_only: ClassVar[bool] = True

    MOST_ATTEMPTS = 20
    """After so many it waits for somebody to look at it."""

    id = models.CharField(primary_key=True, max_length=255)
    type = models.CharField(max_length=120)
    created_at = models.DateTimeField(help_text="When it happened at Stripe.")
    received_at = models.DateTimeField(default=timezone.now)
    body = models.TextField(help_text="The JSON document, byte for byte.")
    attempts = models.PositiveIntegerField(default=0)
    processed_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True, help_text="Why the last attempt failed.")

    objects = StripeEventQuerySet.as_manager()

    class Meta:
        ordering = ["-received_at"]
        indexes = [
            models.Index(
                fields=["received_at"], condition=models.Q(processed_at=None), name="stripe_events_unprocessed"
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} ({self.id})"


class BillingPeriod(TenantOwned):
    """A month of a subscription, as Stripe counts months. Usage in it that its plan does not include is overage."""

    stripe_subscription_id = models.CharField(max_length=255)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    included_seconds = models.BigIntegerField(
        null=True,
        help_text="What is used beyond them is overage; none: all is included. "
        "What was included when it was used stays so when the plan changes.",
    )

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "stripe_subscription_id", "starts_at"], name="one_row_per_billing_period"
            ),
            models.CheckConstraint(condition=models.Q(ends_at__gte=models.F("starts_at")), name="period_ends_after"),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d} to {self.ends_at:%Y-%m-%d}"


class OverageReportQuerySet(TenantQuerySet):
    def unsent(self) -> OverageReportQuerySet:
        return self.filter(sent_at=None)

    def sendable(self, window: datetime.timedelta) -> OverageReportQuerySet:
        """Those that were never tried, or so short a time ago that sending them again counts them once."""
        recent = models.Q(tried_at__gt=timezone.now() - window)
        return self.unsent().filter(models.Q(tried_at=None) | recent).order_by("created_at", "pk")

    def total_seconds(self) -> int:
        return self.aggregate(total=models.Sum("seconds"))["total"] or 0


class OverageReport(TenantOwned):
    """Seconds beyond the included ones, told to Stripe's meter once. Its id is the meter event's identifier."""

    period = TenantForeignKey(BillingPeriod, on_delete=models.PROTECT, related_name="reports")
    seconds = models.PositiveIntegerField()
    metered_at = models.DateTimeField(help_text="The moment within the period that Stripe is told.")
    created_at = models.DateTimeField(default=timezone.now)
    tried_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    objects = TenantManager.from_queryset(OverageReportQuerySet)()  # type: ignore[misc]

    class Meta:
        ordering = ["created_at"]
        indexes = [models.Index(fields=["tenant", "period"], name="overage_reports_of_period")]

    def __str__(self) -> str:
        return f"{self.seconds} s at {self.metered_at:%Y-%m-%d %H:%M}"


class InvoiceQuerySet(TenantQuerySet):
    def issued(self) -> InvoiceQuerySet:
        """What a customer has been shown: no drafts."""
        return self.exclude(status=Invoice.Status.DRAFT)

    def unpaid(self) -> InvoiceQuerySet:
        return self.filter(status=Invoice.Status.OPEN, amount_due_cents__gt=0)


class Invoice(TenantOwned):
    """An invoice as Stripe has it now. `paid_at` and the refunds are what later statements add up."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        OPEN = "open"
        PAID = "paid"
        UNCOLLECTIBLE = "uncollectible"
        VOID = "void"

    stripe_id = models.CharField(max_length=255)
    number = models.CharField(max_length=60, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices)
    reason = models.CharField(max_length=60, blank=True, help_text="Why Stripe made it.")
    currency = models.CharField(max_length=3)
    total_cents = models.BigIntegerField()
    tax_cents = models.BigIntegerField(default=0)
    amount_due_cents = models.BigIntegerField()
    amount_paid_cents = models.BigIntegerField()
    period_starts_at = models.DateTimeField()
    period_ends_at = models.DateTimeField()
    created_at = models.DateTimeField()
    finalized_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    next_attempt_at = models.DateTimeField(null=True)
    hosted_url = models.URLField(max_length=1000, blank=True)
    pdf_url = models.URLField(max_length=1000, blank=True)

    objects = TenantManager.from_queryset(InvoiceQuerySet)()  # type: ignore[misc]

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["tenant", "stripe_id"], name="one_row_per_invoice")]
        indexes = [models.Index(fields=["tenant", "-created_at"], name="invoices_by_time")]

    def __str__(self) -> str:
        return self.number or self.stripe_id


class Refund(TenantOwned):
    """Money given back of a paid invoice, as Stripe has it now."""

    stripe_id = models.CharField(max_length=255)
    invoice = TenantForeignKey(Invoice, on_delete=models.PROTECT, related_name="refunds")
    status = models.CharField(max_length=20)
    amount_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["tenant", "stripe_id"], name="one_row_per_refund")]

    def __str__(self) -> str:
        return f"{self.amount_cents} {self.currency} of {self.invoice_id}"


class Notice(TenantOwned):
    """A mail about billing that owners have been sent: each once."""

    append_only = True

    key = models.CharField(max_length=120, help_text="What it was about, and of when.")
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-sent_at"]
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="each_notice_once")]

    def __str__(self) -> str:
        return self.key
