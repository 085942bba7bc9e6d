"""Affiliates: who brought a tenant, and what they earn by it.

An affiliate is a person, not a tenant. Earnings are append-only: a refund is a further one, below zero.
"""

from __future__ import annotations

import datetime
import secrets
import string
from typing import ClassVar

from django.db import models
from django.utils import timezone

from tenants.models import User
from tenants.ownership import TenantOwned

SHARE_PERCENT = 22
_LETTERS = string.ascii_lowercase + string.digits
_CODE_LENGTH = 8


def make_code() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH))


class Affiliate(models.Model):
    """Somebody who brings customers, for a share of what these pay. The share is that of the day they joined."""

    user = models.OneToOneField(User, on_delete=models.PROTECT, related_name="affiliate")
    code = models.SlugField(max_length=20, unique=True, default=make_code, editable=False)
    share_percent = models.PositiveSmallIntegerField(default=SHARE_PERCENT)
    is_active = models.BooleanField(default=True, help_text="New tenants are attributed; what was earned stays.")
    joined_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["joined_at"]
        constraints = [
            models.CheckConstraint(condition=models.Q(share_percent__lte=100), name="affiliate_share_within_all")
        ]

    def __str__(self) -> str:
        return self.user.email


class Referral(TenantOwned):
    """Who brought this tenant: once, and for good."""

    append_only = True

    affiliate = models.ForeignKey(Affiliate, on_delete=models.PROTECT, related_name="+")
    referred_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["referred_at"]
        constraints = [models.UniqueConstraint(fields=["tenant"], name="one_referral_per_tenant")]

    def __str__(self) -> str:
        return f"by {self.affiliate_id}"


class AffiliateEarning(models.Model):
    """A share of one paid invoice, or, below zero, of one refund. `key` names it at Stripe: it is earned once."""

    operator_only: ClassVar[bool] = True

    affiliate = models.ForeignKey(Affiliate, on_delete=models.PROTECT, related_name="earnings")
    brought_id = models.UUIDField(help_text="The tenant that paid.")
    key = models.CharField(max_length=255, unique=True)
    currency = models.CharField(max_length=3)
    base_cents = models.BigIntegerField(help_text="What was paid or given back, without tax.")
    share_percent = models.PositiveSmallIntegerField()
    earned_cents = models.BigIntegerField()
    occurred_at = models.DateTimeField()
    month_date = models.DateField(help_text="Of its statement: a later one where its own was paid already.")
    recorded_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["occurred_at"]
        indexes = [models.Index(fields=["affiliate", "month_date"], name="earnings_by_month")]

    def __str__(self) -> str:
        return f"{self.earned_cents} {self.currency}"


class AffiliatePayout(models.Model):
    """A month's statement, paid. What the month's earnings came to stays written here."""

    operator_only: ClassVar[bool] = True

    affiliate = models.ForeignKey(Affiliate, on_delete=models.PROTECT, related_name="payouts")
    month_date = models.DateField(help_text="The first day of the month, in UTC.")
    currency = models.CharField(max_length=3)
    cents = models.BigIntegerField()
    reference = models.CharField(max_length=120, blank=True, help_text="Of the transfer.")
    paid_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    paid_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-month_date"]
        constraints = [
            models.UniqueConstraint(fields=["affiliate", "month_date", "currency"], name="each_statement_paid_once")
        ]

    def __str__(self) -> str:
        return f"{self.cents} {self.currency} for {self.month_date:%B %Y}"


def month_of(at: datetime.datetime) -> datetime.date:
    return at.astimezone(datetime.UTC).date().replace(day=1)
