"""Who called, and what they left for the business."""

from __future__ import annotations

import re

from django.db import models
from django.utils import timezone

from tenants.ownership import TenantForeignKey, TenantManager, TenantOwned, TenantQuerySet


def normalise_phone(number: str) -> str:
    """Return a telephone number as its digits, with a leading + where the country is known; a US number gains +1."""
    digits = re.sub(r"\D", "", number)
    if number.strip().startswith("+") and digits:
        return f"+{digits}"
    if digits.startswith("00") and len(digits) > 9:
        return f"+{digits[2:]}"
    if len(digits) == 10:
        return f"+1{digits}"
    if len(digits) == 11 and digits.startswith("1"):
        return f"+{digits}"
    return digits


class Contact(TenantOwned):
    """Somebody who called, known by telephone number where they gave one."""

    name = models.CharField(max_length=120, blank=True)
    phone = models.CharField(max_length=20, blank=True, help_text="As normalise_phone writes it.")
    email = models.EmailField(blank=True)
    notes = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-updated_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "phone"], condition=~models.Q(phone=""), name="one_contact_per_phone"
            )
        ]

    def __str__(self) -> str:
        return self.name or self.phone or "Unknown caller"


class LeftQuerySet(TenantQuerySet):
    def open(self) -> LeftQuerySet:
        return self.filter(handled_at=None)


class LeftByCaller(TenantOwned):
    """What a caller left behind, open until somebody of the business has handled it."""

    call_id = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    handled_at = models.DateTimeField(null=True, blank=True)

    objects = TenantManager.from_queryset(LeftQuerySet)()

    class Meta:
        abstract = True
        ordering = ["-created_at"]


class Message(LeftByCaller):
    """Something a caller asked the agent to pass on."""

    contact = TenantForeignKey(Contact, null=True, on_delete=models.PROTECT, related_name="messages")
    text = models.TextField()

    def __str__(self) -> str:
        return self.text[:60]


class HandOff(LeftByCaller):
    """A caller whom the agent could not help, and whom a person is to call back."""

    contact = TenantForeignKey(Contact, null=True, on_delete=models.PROTECT, related_name="hand_offs")
    reason = models.TextField()

    def __str__(self) -> str:
        return self.reason[:60]
