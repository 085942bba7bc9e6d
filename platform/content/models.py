"""What is encrypted with the tenant's key: what was said and heard in calls, keys of services and accounts.

Calls are named by plain ids: these tables may live in another database than the calls do.
"""

from __future__ import annotations

import datetime

from django.db import models
from django.utils import timezone

from content.fields import EncryptedJSONField, EncryptedTextField
from tenants.ownership import TenantManager, TenantOwned, TenantQuerySet


class TenantKey(TenantOwned):
    """A tenant's content key, wrapped by the master key. Empty: deleted, and the content with it."""

    wrapped = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant"], name="one_content_key_per_tenant")]

    def __str__(self) -> str:
        return f"Content key of {self.tenant_id}"


class ContentQuerySet(TenantQuerySet):
    def of_call(self, call_id: object) -> ContentQuerySet:
        return self.filter(call_id=call_id)


class TranscriptLine(TenantOwned):
    """One thing that was said: recognised of the caller, or really spoken by the agent."""

    class Role(models.TextChoices):
        CALLER = "caller"
        AGENT = "agent"

    call_id = models.UUIDField()
    position = models.PositiveIntegerField(help_text="Order within the call, from 0.")
    turn_index = models.PositiveIntegerField()
    role = models.CharField(max_length=8, choices=Role.choices)
    text = EncryptedTextField()
    interrupted = models.BooleanField(default=False)
    at_ms = models.PositiveIntegerField(default=0, help_text="Milliseconds since the call began.")

    objects = TenantManager.from_queryset(ContentQuerySet)()

    class Meta:
        ordering = ["call_id", "position"]
        constraints = [models.UniqueConstraint(fields=["tenant", "call_id", "position"], name="one_line_per_position")]

    def __str__(self) -> str:
        return f"{self.role} in turn {self.turn_index} of {self.call_id}"


class ToolRun(TenantOwned):
    """One run of a tool in a call, with what went in and what came out."""

    call_id = models.UUIDField()
    turn_index = models.PositiveIntegerField()
    name = models.CharField(max_length=64)
    arguments = EncryptedJSONField()
    result = EncryptedJSONField(null=True)
    ok = models.BooleanField()
    error_code = models.CharField(max_length=64, blank=True)
    duration_ms = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)

    objects = TenantManager.from_queryset(ContentQuerySet)()

    class Meta:
        ordering = ["started_at"]
        indexes = [models.Index(fields=["tenant", "call_id"], name="tool_runs_of_call")]

    def __str__(self) -> str:
        return f"{self.name} in {self.call_id}"


CLAIM = datetime.timedelta(minutes=15)
"""Whoever makes a file of a recording for longer than this is taken for lost."""


class RecordingQuerySet(ContentQuerySet):
    def to_be_made(self, at: datetime.datetime) -> RecordingQuerySet:
        """Recordings that have no file yet and that nobody makes one of."""
        is_lost = models.Q(state="making", claimed_at__lt=at - CLAIM)
        return self.filter(models.Q(state="recording") | is_lost)


class Recording(TenantOwned):
    """What was heard of a call. The sound lies in a storage, encrypted (content.recordings)."""

    class State(models.TextChoices):
        RECORDING = "recording", "Recording"
        MAKING = "making", "Being made ready"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        DELETED = "deleted", "Deleted"

    call_id = models.UUIDField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.RECORDING)
    started_at = models.DateTimeField(default=timezone.now)
    stopped_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    keep_days = models.PositiveSmallIntegerField(null=True, help_text="As its agent says; empty: as the plan does.")
    problem = models.CharField(max_length=200, blank=True, help_text="Why it is not whole.")
    file = models.CharField(max_length=200, blank=True, help_text="Its name in the storage.")
    bytes = models.BigIntegerField(default=0, help_text="Of the file, before it is encrypted.")
    duration_ms = models.PositiveIntegerField(default=0)
    begins_at_ms = models.PositiveIntegerField(default=0, help_text="Since the call began.")
    deleted_at = models.DateTimeField(null=True)

    objects = TenantManager.from_queryset(RecordingQuerySet)()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "call_id"], name="one_recording_per_call")]
        indexes = [
            models.Index(
                fields=["started_at"],
                condition=models.Q(state__in=["recording", "making"]),
                name="recordings_to_be_made",
            )
        ]

    def __str__(self) -> str:
        return f"Recording of {self.call_id}"


class ServiceKey(TenantOwned):
    """A tenant's key for a managed service, which the provider bills to the tenant. Never shown again."""

    class Provider(models.TextChoices):
        ELEVENLABS = "elevenlabs", "ElevenLabs"
        CARTESIA = "cartesia", "Cartesia"
        DEEPGRAM = "deepgram", "Deepgram"
        OPENAI = "openai", "OpenAI"

    provider = models.CharField(max_length=20, choices=Provider.choices)
    secret = EncryptedTextField()
    last_four = models.CharField(max_length=4, editable=False)
    saved_by = models.CharField(max_length=254, blank=True, editable=False, help_text="An e-mail address.")
    saved_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["provider"]
        constraints = [models.UniqueConstraint(fields=["tenant", "provider"], name="one_key_per_service")]

    def __str__(self) -> str:
        return f"{self.get_provider_display()} …{self.last_four}"


class AccountCredentials(TenantOwned):
    """What opens an account that a tenant has with a provider of containers. The account is named by its plain id."""

    account_id = models.UUIDField()
    credentials = EncryptedJSONField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "account_id"], name="credentials_once_per_account")]

    def __str__(self) -> str:
        return f"Credentials of {self.account_id}"
