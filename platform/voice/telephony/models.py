"""Telephone numbers and what they lead to, carriers' accounts, the legs of calls, and the rules of calling out."""

from __future__ import annotations

import datetime
import hashlib
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from agents.models.scheduling import WEEKDAYS
from content.fields import EncryptedTextField
from tenants.models import User
from tenants.ownership import TenantForeignKey, TenantManager, TenantOwned, TenantQuerySet

E164 = RegexValidator(r"^\+[1-9]\d{6,14}$", "Write it with its country, like +14155550123.")


class Carrier(models.TextChoices):
    TWILIO = "twilio", "Twilio"
    SIGNALWIRE = "signalwire", "SignalWire"
    TELNYX = "telnyx", "Telnyx"
    PLIVO = "plivo", "Plivo"
    SIP = "sip", "SIP"


class CarrierAccount(TenantOwned):
    """A tenant's account with a carrier, which bills to the tenant. Its token is never shown again.

    What each carrier calls these, `credentials` in CARRIERS of voice.telephony.carriers tells.
    """

    carrier = models.CharField(max_length=16, choices=Carrier.choices, default=Carrier.TWILIO)
    space = models.CharField(max_length=63, blank=True, help_text="SignalWire's name for a customer's address.")
    account_ref = models.CharField(max_length=64, blank=True, help_text="The carrier's name for the account.")
    token = EncryptedTextField()
    signing_key = EncryptedTextField(null=True, help_text="Of its requests, where that is not the token.")
    last_four = models.CharField(max_length=4, editable=False)
    saved_by = models.CharField(max_length=254, blank=True, editable=False, help_text="An e-mail address.")
    saved_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["carrier"]
        constraints = [models.UniqueConstraint(fields=["tenant", "carrier"], name="one_account_per_carrier")]

    def __str__(self) -> str:
        return f"{self.get_carrier_display()} {self.account_ref}"

    def unlock(self) -> None:
        """Decrypt what is secret, for use after the tenant was left."""
        str(self.token), str(self.signing_key)


class NumberQuerySet(TenantQuerySet):
    def in_service(self) -> NumberQuerySet:
        """Those that take and place calls."""
        return self.filter(is_active=True, standing=TelephoneNumber.Standing.CONFIRMED)

    def counted(self) -> NumberQuerySet:
        """Those that the plan's limit counts."""
        return self.exclude(standing=TelephoneNumber.Standing.REFUSED)


class TelephoneNumber(TenantOwned):
    """A number that callers dial, and the agent that answers once it is confirmed to be the tenant's.

    A carrier confirms it by finding it in the tenant's account there; of what a SIP trunk brings, the operator knows
    whose it is. Several tenants may ask for a number, and one can have it.
    """

    class Standing(models.TextChoices):
        WAITING = "waiting", "waits for the operator"
        CONFIRMED = "confirmed"
        REFUSED = "refused"

    class Outside(models.TextChoices):
        """What callers get outside the number's hours."""

        AGENT = "agent", "another agent"
        MESSAGE = "message", "a message"

    number = models.CharField(max_length=16, validators=[E164])
    standing = models.CharField(max_length=9, choices=Standing.choices, default=Standing.WAITING, editable=False)
    carrier = models.CharField(max_length=16, choices=Carrier.choices)
    carrier_ref = models.CharField(max_length=64, blank=True, editable=False, help_text="The carrier's name for it.")
    label = models.CharField(max_length=80, blank=True, help_text="What it is for: only you see it.")
    agent = TenantForeignKey("agents.Agent", on_delete=models.PROTECT, related_name="+")
    outside = models.CharField(max_length=8, choices=Outside.choices, default=Outside.MESSAGE)
    outside_agent = TenantForeignKey("agents.Agent", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    outside_message = models.CharField(max_length=500, blank=True)
    forwards_to = models.CharField(
        max_length=120, blank=True, help_text="Who takes over when an agent hands a caller to a person."
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantManager.from_queryset(NumberQuerySet)()  # type: ignore[django-manager-missing, misc]

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="number_once_per_tenant"),
            models.UniqueConstraint(
                fields=["number"], condition=models.Q(standing="confirmed"), name="one_tenant_per_confirmed_number"
            ),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def is_confirmed(self) -> bool:
        return self.standing == self.Standing.CONFIRMED


class NumberHours(TenantOwned):
    """A stretch of a weekday in which a number's agent answers. A number without any is always in its hours."""

    number = TenantForeignKey(TelephoneNumber, on_delete=models.CASCADE, related_name="hours")
    weekday = models.PositiveSmallIntegerField(choices=list(enumerate(WEEKDAYS)))
    opens_at = models.TimeField()
    closes_at = models.TimeField()

    class Meta:
        ordering = ["weekday", "opens_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(closes_at__gt=models.F("opens_at")), name="number_opens_before_it_closes"
            ),
            models.CheckConstraint(condition=models.Q(weekday__lte=6), name="number_weekday_is_known"),
        ]

    def __str__(self) -> str:
        return f"{WEEKDAYS[self.weekday]} {self.opens_at:%H:%M} to {self.closes_at:%H:%M}"


class SentenceQuerySet(TenantQuerySet):
    def of(self, sentence: str) -> SentenceQuerySet:
        return self.filter(digest=SpokenSentence.digest_of(sentence))


class SpokenSentence(TenantOwned):
    """A sentence for callers as sound, where the carrier has no voice of its own. See voice.telephony.clips."""

    digest = models.CharField(max_length=64, help_text="Of the sentence, which stands elsewhere.")
    sound = models.BinaryField(help_text="Ogg Opus.")
    made_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantManager.from_queryset(SentenceQuerySet)()  # type: ignore[django-manager-missing, misc]

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "digest"], name="one_sound_per_sentence")]

    def __str__(self) -> str:
        return f"Spoken sentence {self.digest[:8]}"

    @staticmethod
    def digest_of(sentence: str) -> str:
        return hashlib.sha256(sentence.encode()).hexdigest()


class LegQuerySet(TenantQuerySet):
    def callers(self) -> LegQuerySet:
        return self.filter(role=TelephoneLeg.Role.CALLER)

    def unfinished(self) -> LegQuerySet:
        return self.exclude(status__in=TelephoneLeg.FINISHED)


class TelephoneLeg(TenantOwned):
    """One connection of a carrier's: to the caller, or to the person whom the caller was put through to."""

    class Role(models.TextChoices):
        CALLER = "caller"
        PERSON = "person"

    class Direction(models.TextChoices):
        INBOUND = "inbound", "called us"
        OUTBOUND = "outbound", "was called"

    class Status(models.TextChoices):
        WAITING = "waiting", "waiting to be dialled"
        RINGING = "ringing"
        ANSWERED = "answered"
        COMPLETED = "completed"
        BUSY = "busy"
        NO_ANSWER = "no_answer", "no answer"
        CANCELLED = "cancelled"
        FAILED = "failed"

    FINISHED: ClassVar = (Status.COMPLETED, Status.BUSY, Status.NO_ANSWER, Status.CANCELLED, Status.FAILED)

    call = TenantForeignKey("voice.Call", null=True, on_delete=models.CASCADE, related_name="legs")
    agent = TenantForeignKey("agents.Agent", null=True, on_delete=models.PROTECT, related_name="+")
    role = models.CharField(max_length=8, choices=Role.choices, default=Role.CALLER)
    direction = models.CharField(max_length=8, choices=Direction.choices, default=Direction.INBOUND)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RINGING)
    carrier = models.CharField(max_length=16, choices=Carrier.choices)
    carrier_ref = models.CharField(max_length=128, blank=True, help_text="The carrier's name for it.")
    our_number = models.CharField(max_length=16)
    other_number = models.CharField(max_length=120, blank=True, help_text="Empty: withheld.")
    placed_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    rang_at = models.DateTimeField(default=timezone.now)
    answered_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    carrier_seconds = models.PositiveIntegerField(null=True, help_text="What the carrier bills.")
    answered_by = models.CharField(max_length=24, blank=True, help_text="Person or machine, as the carrier heard it.")
    problem = models.CharField(max_length=200, blank=True)

    end_kind = models.CharField(max_length=16, blank=True, help_text="As voice.telephony.bridge.EndKind says.")
    close_code = models.PositiveSmallIntegerField(null=True)
    transferred_to = models.CharField(max_length=120, blank=True)
    codec = models.CharField(max_length=16, blank=True)
    packets_received = models.PositiveIntegerField(null=True)
    packets_lost = models.PositiveIntegerField(null=True)
    packets_late = models.PositiveIntegerField(null=True)
    frames_concealed = models.PositiveIntegerField(null=True)
    jitter_ms = models.FloatField(null=True)
    bridge_ms_p50 = models.FloatField(null=True)
    bridge_ms_p99 = models.FloatField(null=True)
    peer_packets_lost = models.PositiveIntegerField(null=True, help_text="Of our sound, as the other side tells.")
    peer_jitter_ms = models.FloatField(null=True)
    round_trip_ms = models.FloatField(null=True)

    objects = TenantManager.from_queryset(LegQuerySet)()  # type: ignore[django-manager-missing, misc]

    class Meta:
        ordering = ["rang_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "carrier", "carrier_ref"],
                condition=~models.Q(carrier_ref=""),
                name="one_leg_per_carrier_ref",
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "call"], name="legs_of_call"),
            models.Index(fields=["tenant", "-rang_at"], name="legs_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.get_carrier_display()} leg with {self.other_number or 'a withheld number'}"

    @property
    def ring_seconds(self) -> float | None:
        """From the first ring to the answer."""
        return None if self.answered_at is None else (self.answered_at - self.rang_at).total_seconds()

    @property
    def is_finished(self) -> bool:
        return self.status in self.FINISHED

    def answer(self, at: datetime.datetime | None = None) -> None:
        if self.answered_at is None and not self.is_finished:
            self.status, self.answered_at = self.Status.ANSWERED, at or timezone.now()
            self.save(update_fields=["status", "answered_at"])

    def finish(self, status: str, *, seconds: int | None = None, problem: str = "") -> bool:
        """Take in how the carrier says it ended; return whether that is news."""
        if self.is_finished:
            return False
        self.status, self.ended_at = status, timezone.now()
        self.carrier_seconds = self.carrier_seconds if seconds is None else seconds
        self.problem = problem[:200]
        self.save(update_fields=["status", "ended_at", "carrier_seconds", "problem"])
        return True


class OutboundRules(TenantOwned):
    """A tenant's word that it calls only whom it may, and the hours in which it does. Without it nobody is called."""

    agreed_by = models.CharField(max_length=254, editable=False, help_text="An e-mail address.")
    agreed_at = models.DateTimeField(default=timezone.now, editable=False)
    calls_from = models.TimeField(default=datetime.time(9))
    calls_until = models.TimeField(default=datetime.time(20))
    weekdays = ArrayField(models.PositiveSmallIntegerField(), default=list, help_text="0 is Monday. Empty: all days.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="one_outbound_rules_per_tenant"),
            models.CheckConstraint(
                condition=models.Q(calls_until__gt=models.F("calls_from")), name="outbound_hours_have_an_order"
            ),
        ]

    def __str__(self) -> str:
        return f"Calls from {self.calls_from:%H:%M} to {self.calls_until:%H:%M}"


class DoNotCall(TenantOwned):
    """Somebody whom the tenant's agents never call."""

    number = models.CharField(max_length=16, validators=[E164])
    reason = models.CharField(max_length=200, blank=True)
    added_by = models.CharField(max_length=254, blank=True, editable=False, help_text="An e-mail address.")
    added_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["tenant", "number"], name="one_do_not_call_per_number")]

    def __str__(self) -> str:
        return self.number
