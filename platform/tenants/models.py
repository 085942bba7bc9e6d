"""Customer organisations, the people in them, and what those people did."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import timedelta
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from tenants.ownership import TenantManager, TenantOwned, TenantQuerySet


class UserManager(BaseUserManager["User"]):
    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, **{**fields, "is_staff": True, "is_superuser": True})


class User(AbstractUser):
    """A person, known by e-mail address; what they may do in a tenant is their Membership."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_in_any_case")]

    @property
    def is_operator(self) -> bool:
        """Whether the user runs this installation and may see all tenants."""
        return self.is_active and self.is_superuser

    @property
    def display_name(self) -> str:
        return self.get_full_name() or self.email.partition("@")[0]


def check_time_zone(name: str) -> None:
    if name not in available_timezones():
        raise ValidationError(f"{name} is not a time zone: choose one like Europe/Paris.")


class Tenant(models.Model):
    """A customer organisation. Its own row is visible only to those who have entered it, and to the operator."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=50, unique=True)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[check_time_zone])
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.ACTIVE)
    status_reason = models.CharField(max_length=200, blank=True)
    region = models.CharField(max_length=32, default="local", help_text="Where its callers are, mostly.")
    is_house = models.BooleanField(default=False, help_text="Owned by the operator: shared pools and the public demo.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=["active", "suspended"]), name="tenant_status_is_known"
            ),
            models.UniqueConstraint("is_house", condition=models.Q(is_house=True), name="one_house_tenant"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_suspended(self) -> bool:
        return self.status == self.Status.SUSPENDED

    def suspend(self, reason: str) -> None:
        """Refuse new calls from now on; everything stays readable."""
        self.status, self.status_reason = self.Status.SUSPENDED, reason
        self.save(update_fields=["status", "status_reason"])

    def restore(self) -> None:
        self.status, self.status_reason = self.Status.ACTIVE, ""
        self.save(update_fields=["status", "status_reason"])


class Role(models.TextChoices):
    """What a member may do. Each role may do all that those below it may."""

    VIEWER = "viewer", "Viewer"
    DEVELOPER = "developer", "Developer"
    ADMIN = "admin", "Admin"
    OWNER = "owner", "Owner"

    def includes(self, other: Role) -> bool:
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


class MembershipQuerySet(TenantQuerySet):
    def owners(self) -> MembershipQuerySet:
        return self.filter(role=Role.OWNER)


class Membership(TenantOwned):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantManager.from_queryset(MembershipQuerySet)()

    class Meta:
        ordering = ["created_at"]
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_per_tenant")]

    def __str__(self) -> str:
        return f"{self.user} as {self.role}"

    def may(self, role: Role) -> bool:
        return Role(self.role).includes(role)


def hash_secret(secret: str) -> str:
    """Return how a random secret is kept: SHA-256, in hex. Only for secrets of 128 bits and more, not for passwords."""
    return hashlib.sha256(secret.encode()).hexdigest()


def in_a_week() -> Any:
    return timezone.now() + timedelta(days=7)


class Invitation(TenantOwned):
    """An offer of membership, sent by e-mail; its link holds a secret that only the hash of is kept."""

    email = models.EmailField()
    role = models.CharField(max_length=12, choices=Role.choices, default=Role.VIEWER)
    token_hash = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(default=in_a_week)
    accepted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.email} as {self.role}"

    @property
    def is_open(self) -> bool:
        return self.accepted_at is None and self.expires_at > timezone.now()


class ApiKey(TenantOwned):
    """A secret for programs: shown once, kept as a hash, limited to its scopes, revocable."""

    class Scope(models.TextChoices):
        CALL = "calls:create", "Place calls"
        READ = "calls:read", "Read calls"

    PREFIX = "wl_"

    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12, editable=False, help_text="The first characters, to tell keys apart.")
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def generate_secret(cls) -> str:
        return cls.PREFIX + secrets.token_urlsafe(32)

    @property
    def scope_labels(self) -> list[str]:
        return [self.Scope(scope).label for scope in self.scopes if scope in self.Scope.values]

    def allows(self, scope: str) -> bool:
        return self.revoked_at is None and scope in self.scopes

    def note_use(self) -> None:
        """Keep when it was used, to the minute."""
        now = timezone.now()
        if self.last_used_at is None or (now - self.last_used_at).total_seconds() > 60:
            self.last_used_at = now
            self.save(update_fields=["last_used_at"])


class AuditEntry(TenantOwned):
    """One thing somebody did in a tenant. The trail only grows."""

    append_only = True

    occurred_at = models.DateTimeField(default=timezone.now, editable=False)
    # Kept as text beside the reference: the trail outlives the account.
    actor = models.ForeignKey(User, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    actor_name = models.CharField(max_length=254)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=200, blank=True)
    details = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-occurred_at"]
        indexes = [models.Index(fields=["tenant", "-occurred_at"], name="audit_by_time")]

    def __str__(self) -> str:
        return f"{self.actor_name}: {self.action} {self.target}"


__all__ = [
    "ApiKey",
    "AuditEntry",
    "Invitation",
    "Membership",
    "Role",
    "Tenant",
    "User",
    "hash_secret",
]
