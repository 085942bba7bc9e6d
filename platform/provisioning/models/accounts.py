"""Accounts with providers: those that tenants brought, and how reading bills and prices goes with the operator's."""

from __future__ import annotations

import datetime
from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from provisioning.backends.contract import AccountRef, Rates
from tenants.ownership import TenantManager, TenantOwned, TenantQuerySet


class BillReader(models.Model):
    """Up to where an account's bill was read, and what kept it from being read."""

    bill_read_until = models.DateTimeField(null=True, editable=False)
    bill_problem = models.CharField(max_length=500, blank=True, editable=False)

    class Meta:
        abstract = True

    def note_bill_read(self, until: datetime.datetime) -> None:
        self.bill_read_until, self.bill_problem = until, ""
        self.save(update_fields=["bill_read_until", "bill_problem"])

    def note_bill_problem(self, sentence: str) -> bool:
        """Keep what is wrong, and return whether that is news."""
        if self.bill_problem == sentence[:500]:
            return False
        self.bill_problem = sentence[:500]
        self.save(update_fields=["bill_problem"])
        return True


class AccountQuerySet(TenantQuerySet):
    def of_backend(self, backend: str) -> AccountQuerySet:
        return self.filter(backend=backend, forgotten_at=None)

    def in_use(self) -> AccountQuerySet:
        """Those in which new deployments are made: at most one for each backend of a tenant."""
        return self.filter(left_at=None)

    def left(self) -> AccountQuerySet:
        """Those that were replaced or removed, and whose credentials are still needed to stop what stands there."""
        return self.exclude(left_at=None).filter(forgotten_at=None)


class Account(TenantOwned, BillReader):
    """A tenant's own account with the provider of a backend. Its credentials are in the vault.

    New credentials of the same account take the place of the old ones. Those of another one are another row: what
    stands in the old account is drained there while new deployments start in the new one.
    """

    backend = models.CharField(max_length=16)
    name = models.CharField(max_length=120, blank=True, help_text="As the provider calls it.")
    last_four = models.CharField(max_length=4, help_text="Of the token's id.")
    saved_by = models.CharField(max_length=254, blank=True, help_text="An e-mail address.")
    saved_at = models.DateTimeField(default=timezone.now, editable=False)
    left_at = models.DateTimeField(null=True, help_text="Since when nothing new is deployed there.")
    forgotten_at = models.DateTimeField(null=True, help_text="When its credentials were deleted.")

    objects = TenantManager.from_queryset(AccountQuerySet)()

    class Meta:
        ordering = ["-saved_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "backend"], condition=models.Q(left_at=None), name="one_account_in_use_per_backend"
            )
        ]

    def __str__(self) -> str:
        return f"{self.backend.title()} workspace {self.name or '…' + self.last_four}"

    @property
    def ref(self) -> AccountRef:
        return AccountRef(tenant_id=str(self.tenant_id), id=str(self.pk))

    def leave(self) -> None:
        self.left_at = timezone.now()
        self.save(update_fields=["left_at"])

    def become_forgotten(self) -> None:
        self.forgotten_at = timezone.now()
        self.save(update_fields=["forgotten_at"])


class BackendStanding(BillReader):
    """How reading bills and prices goes with the operator's account on a backend."""

    operator_writes = True

    backend = models.CharField(max_length=16, primary_key=True)
    prices_read_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return self.backend


class PriceListQuerySet(models.QuerySet["PriceList"]):
    def in_force(self, backend: str, day: datetime.date) -> PriceList | None:
        """Return the newest list that begins on or before a day."""
        return self.filter(backend=backend, since__lte=day).order_by("-since").first()


class PriceList(models.Model):
    """What a provider said that computing costs, from a day on. What it does not tell is in prices.toml."""

    operator_writes = True

    backend = models.CharField(max_length=16)
    since = models.DateField()
    rates = models.JSONField(help_text="Nano-dollars a second.")
    read_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)

    objects = models.Manager.from_queryset(PriceListQuerySet)()

    class Meta:
        ordering = ["backend", "-since"]
        constraints = [models.UniqueConstraint(fields=["backend", "since"], name="one_price_list_per_day")]

    def __str__(self) -> str:
        return f"{self.backend}, since {self.since}"

    @property
    def told(self) -> Rates:
        return Rates(**self.rates)

    @classmethod
    def document_of(cls, rates: Rates) -> dict[str, Any]:
        return {"gpu": dict(rates.gpu), "cpu_core": rates.cpu_core, "memory_gib": rates.memory_gib}
