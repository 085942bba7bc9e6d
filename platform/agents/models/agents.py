"""A tenant's agents, and the immutable versions of them that callers talk to."""

from __future__ import annotations

import secrets
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from tenants.models import User
from tenants.ownership import TenantForeignKey, TenantManager, TenantOwned, TenantQuerySet


def generate_public_key() -> str:
    return "pk_" + secrets.token_urlsafe(18)


class AgentQuerySet(TenantQuerySet):
    def current(self) -> AgentQuerySet:
        """Agents that are not archived."""
        return self.filter(archived_at=None)

    def callable(self) -> AgentQuerySet:
        """Agents with a live version."""
        return self.current().exclude(live_version=None)


class Agent(TenantOwned):
    """An agent of a tenant: a draft that is edited, and the version that is live."""

    slug = models.SlugField(max_length=50)
    name = models.CharField(max_length=80)
    vertical = models.CharField(max_length=32)
    template_slug = models.CharField(max_length=64, blank=True)
    draft = models.JSONField(default=dict)
    live_version = TenantForeignKey("AgentVersion", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    public_key = models.CharField(max_length=40, unique=True, default=generate_public_key, editable=False)
    allowed_origins = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    calls_per_minute = models.PositiveIntegerField(default=30)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = TenantManager.from_queryset(AgentQuerySet)()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="one_agent_per_slug")]

    def __str__(self) -> str:
        return self.name


class AgentVersion(TenantOwned):
    """An immutable configuration. Calls keep the version they began with."""

    append_only: ClassVar[bool] = True

    agent = TenantForeignKey(Agent, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    config = models.JSONField()
    engine = models.CharField(max_length=16)
    note = models.CharField(max_length=200, blank=True)
    published_by = models.ForeignKey(
        User, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    published_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["tenant", "agent", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"{self.agent} version {self.number}"

    @property
    def short_name(self) -> str:
        return f"version {self.number}"
