"""Calls, their turns and sessions, and what lets a caller in: tickets and leases.

The gateway writes these tables with its own statements (voice.statements); pages and commands read them here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from tenants.models import User
from tenants.ownership import TenantForeignKey, TenantManager, TenantOwned
from voice.querysets import CallDayQuerySet, CallQuerySet


class EndReason(models.TextChoices):
    """Why a call ended. Refused callers get no Call: they are told a close code before there is one."""

    CALLER_HUNG_UP = "caller_hung_up", "The caller hung up"
    AGENT_HUNG_UP = "agent_hung_up", "The agent said goodbye"
    TIME_LIMIT = "time_limit", "The call reached its time limit"
    SPEND_CAP = "spend_cap", "The account reached its limit for the month"
    CALLER_SILENT = "caller_silent", "Nothing came from the caller for too long"
    CALLER_STUCK = "caller_stuck", "The caller took no messages for too long"
    CALLER_FAULT = "caller_fault", "The caller broke the protocol"
    NO_WORKER = "no_worker", "No worker could be reached"
    WORKER_AT_CAPACITY = "worker_at_capacity", "The workers had no place left"
    WORKER_TIMED_OUT = "worker_timed_out", "The worker did not answer in time"
    WORKER_LOST = "worker_lost", "The worker was lost during the call"
    GATEWAY_STOPPED = "gateway_stopped", "The gateway was restarted"
    GATEWAY_LOST = "gateway_lost", "The gateway was lost; closed from its last checkpoint"
    FAILED = "failed", "The gateway failed"


GOOD_ENDS = (EndReason.CALLER_HUNG_UP, EndReason.AGENT_HUNG_UP, EndReason.TIME_LIMIT, EndReason.SPEND_CAP)
"""Ends that nobody has to look into."""


class Call(TenantOwned):
    """One conversation, from the request to its end. Times are milliseconds of the gateway's monotonic clock."""

    class Status(models.TextChoices):
        OPENING = "opening"
        LIVE = "live"
        ENDED = "ended"

    class Channel(models.TextChoices):
        BROWSER = "browser"
        API = "api", "API"
        DEMO = "demo"
        COMMAND = "command"
        TELEPHONE = "telephone"

    UNFINISHED: ClassVar = (Status.OPENING, Status.LIVE)

    agent = TenantForeignKey("agents.Agent", on_delete=models.PROTECT, related_name="calls")
    version = TenantForeignKey("agents.AgentVersion", on_delete=models.PROTECT, related_name="calls")
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.OPENING)
    channel = models.CharField(max_length=12, choices=Channel.choices, default=Channel.BROWSER)
    end_reason = models.CharField(max_length=24, choices=EndReason.choices, blank=True)
    close_code = models.PositiveSmallIntegerField(null=True)
    epoch = models.PositiveIntegerField(default=1, help_text="Who may close: a writer with an older epoch may not.")
    # Pools may be the operator's, shared by tenants: no constraint, and their rows may not be visible from here.
    region = models.CharField(max_length=32, blank=True, help_text="In which it was held.")
    caller_region = models.CharField(
        max_length=32, blank=True, default="", db_default="", help_text="Near the caller: tried first."
    )
    refused_places = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="Where no session could be had, and why.",
    )
    pool_id = models.UUIDField(null=True)
    deployment_id = models.UUIDField(null=True)

    started_at = models.DateTimeField(default=timezone.now, help_text="The WebSocket request was received.")
    admitted_at = models.DateTimeField(null=True)
    last_checkpoint_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)

    setup_ms = models.PositiveIntegerField(null=True)
    reserve_ms = models.PositiveIntegerField(null=True)
    connect_ms = models.PositiveIntegerField(null=True)
    ready_ms = models.PositiveIntegerField(null=True)
    first_audio_ms = models.PositiveIntegerField(null=True)
    duration_ms = models.PositiveIntegerField(default=0, help_text="From ready to the end.")
    gateway_ms_p50 = models.FloatField(null=True)
    gateway_ms_p99 = models.FloatField(null=True)
    boot = models.CharField(max_length=8, blank=True)
    boot_ms = models.PositiveIntegerField(null=True)

    turns_count = models.PositiveIntegerField(default=0, help_text="Exchanges, without the greeting.")
    audio_in_messages = models.BigIntegerField(default=0)
    audio_in_bytes = models.BigIntegerField(default=0)
    audio_out_messages = models.BigIntegerField(default=0)
    audio_out_bytes = models.BigIntegerField(default=0)
    discarded_messages = models.BigIntegerField(default=0)
    cost_nano_dollars = models.BigIntegerField(default=0, help_text="Provisional: the ledger of costs decides.")

    caller_address_hash = models.CharField(max_length=64, blank=True)
    resume_token_hash = models.CharField(max_length=64, blank=True)

    objects = TenantManager.from_queryset(CallQuerySet)()  # type: ignore[django-manager-missing, misc]

    class Meta:
        ordering = ["-started_at"]
        indexes = [
            models.Index(fields=["tenant", "-started_at"], name="calls_by_time"),
            models.Index(fields=["tenant", "agent", "-started_at"], name="calls_of_agent"),
            models.Index(fields=["last_checkpoint_at"], condition=~models.Q(status="ended"), name="calls_unfinished"),
            models.Index(fields=["tenant"], condition=~models.Q(status="ended"), name="calls_unfinished_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"Call {self.id}"

    @property
    def is_live(self) -> bool:
        return self.status in self.UNFINISHED

    @property
    def duration_seconds(self) -> float:
        return self.duration_ms / 1000

    @property
    def end_reason_words(self) -> str:
        """The end reason, short: "worker lost"."""
        return self.end_reason.replace("_", " ")

    @property
    def ended_well(self) -> bool:
        return self.end_reason in GOOD_ENDS


class Turn(TenantOwned):
    """One exchange. `turn_ms` is the sum of its parts and of `other_ms`; the greeting (index 0) has none."""

    call = TenantForeignKey(Call, on_delete=models.CASCADE, related_name="turns")
    index = models.PositiveIntegerField()
    at_ms = models.PositiveIntegerField(help_text="From the request to the first message of the reply.")
    turn_ms = models.PositiveIntegerField(null=True)
    end_of_turn_ms = models.PositiveIntegerField(null=True)
    stt_ms = models.PositiveIntegerField(null=True)
    llm_ttft_ms = models.PositiveIntegerField(null=True)
    tts_ttfb_ms = models.PositiveIntegerField(null=True)
    other_ms = models.IntegerField(null=True)

    class Meta:
        ordering = ["call", "index"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "call", "index"], include=["turn_ms"], name="one_turn_per_index")
        ]

    def __str__(self) -> str:
        return f"Turn {self.index} of {self.call_id}"


class Session(TenantOwned):
    """A place on one container, held for a call."""

    class Role(models.TextChoices):
        ENGINE = "engine"
        STT = "stt"
        TTS = "tts"
        LLM = "llm"

    call = TenantForeignKey(Call, on_delete=models.CASCADE, related_name="sessions")
    role = models.CharField(max_length=8, choices=Role.choices, default=Role.ENGINE)
    pool_id = models.UUIDField(null=True)
    deployment_id = models.UUIDField(null=True)
    region = models.CharField(max_length=32, blank=True, default="", db_default="")
    container = models.CharField(max_length=120, blank=True)
    backend_ref = models.CharField(max_length=255, blank=True)
    granted_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)
    reserve_ms = models.PositiveIntegerField(null=True)
    connect_ms = models.PositiveIntegerField(null=True)
    active_ms = models.PositiveIntegerField(default=0, help_text="Held so far: from the grant to the last checkpoint.")
    rate_nano_dollars_per_second = models.BigIntegerField(default=0, help_text="Of the whole container.")
    boot = models.CharField(max_length=8, blank=True)
    boot_ms = models.PositiveIntegerField(null=True)
    why_ended = models.CharField(max_length=24, blank=True)

    class Meta:
        ordering = ["granted_at"]
        indexes = [
            models.Index(fields=["tenant", "call"], name="sessions_of_call"),
            models.Index(fields=["deployment_id", "container", "granted_at"], name="sessions_of_container"),
        ]

    def __str__(self) -> str:
        return f"{self.role} session of {self.call_id}"


TICKET_SECONDS = 60
"""How long a ticket waits to be used."""


def in_a_minute() -> datetime:
    return timezone.now() + timedelta(seconds=TICKET_SECONDS)


class Ticket(TenantOwned):
    """Leave to call one agent once, soon. Only the hash of its secret is kept."""

    agent = TenantForeignKey("agents.Agent", on_delete=models.CASCADE, related_name="+")
    token_hash = models.CharField(max_length=64, unique=True)
    channel = models.CharField(max_length=12, choices=Call.Channel.choices, default=Call.Channel.BROWSER)
    origin = models.CharField(max_length=200, blank=True, help_text="The page that may use it; empty: any.")
    max_seconds = models.PositiveIntegerField(null=True)
    issued_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(default=in_a_minute)
    used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["expires_at"], name="tickets_by_expiry")]

    def __str__(self) -> str:
        return f"Ticket for {self.agent_id}"


class CallLease(TenantOwned):
    """One of a tenant's lines, taken by a call. It expires by itself unless the gateway renews it."""

    call_id = models.UUIDField(unique=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["tenant", "expires_at"], name="leases_of_tenant")]

    def __str__(self) -> str:
        return f"Line of {self.call_id}"


class CallDay(TenantOwned):
    """A tenant's ended calls of one day and agent, added up as they end, so that overviews read few rows.

    The day is the tenant's own. Histograms count durations in the buckets of voice.buckets.
    """

    day_date = models.DateField()
    agent_id = models.UUIDField()
    calls = models.PositiveIntegerField(default=0)
    failed_calls = models.PositiveIntegerField(default=0)
    duration_ms = models.BigIntegerField(default=0)
    turns = models.PositiveIntegerField(default=0)
    cost_nano_dollars = models.BigIntegerField(default=0)
    first_audio_histogram = ArrayField(models.IntegerField())
    turn_histogram = ArrayField(models.IntegerField())

    objects = TenantManager.from_queryset(CallDayQuerySet)()  # type: ignore[django-manager-missing, misc]

    class Meta:
        ordering = ["day_date"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "day_date", "agent_id"], name="one_row_per_day_and_agent")
        ]

    def __str__(self) -> str:
        return f"{self.calls} calls on {self.day_date}"


class LedgerDay(TenantOwned):
    """What the sealed entries of the ledgers come to, by day, agent and kind. See voice.ledger_days.

    The day is the tenant's own. `kind` is that of usage (seconds), or the part of a cost (nano-dollars).
    """

    day_date = models.DateField()
    agent_id = models.UUIDField(null=True, help_text="Empty: no call was served.")
    ledger = models.CharField(max_length=12)
    kind = models.CharField(max_length=20)
    entries = models.PositiveIntegerField()
    amount = models.BigIntegerField()

    class Meta:
        ordering = ["day_date", "ledger", "kind"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "ledger", "day_date", "agent_id", "kind"],
                nulls_distinct=False,
                name="one_row_per_ledger_day",
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.kind} on {self.day_date}"


class LedgerMark(TenantOwned):
    """Up to which seal a ledger of a tenant is in its days."""

    ledger = models.CharField(max_length=12)
    rolled_up_until = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "ledger"], name="one_mark_per_ledger")]

    def __str__(self) -> str:
        return f"{self.ledger} up to {self.rolled_up_until}"
