"""The built-in scheduler: when a business is open, what it offers, and who comes when."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeBoundary, RangeOperators
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Func
from django.db.models.functions import Lower
from django.utils import timezone

from agents.models.contacts import Contact
from tenants.ownership import TenantForeignKey, TenantManager, TenantOwned, TenantQuerySet

WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class OpeningHours(TenantOwned):
    """One stretch of a weekday, in the business's own time. A day may have several, and none is closed."""

    weekday = models.PositiveSmallIntegerField(choices=list(enumerate(WEEKDAYS)))
    opens_at = models.TimeField()
    closes_at = models.TimeField()

    class Meta:
        ordering = ["weekday", "opens_at"]
        verbose_name_plural = "opening hours"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(closes_at__gt=models.F("opens_at")), name="opens_before_it_closes"
            ),
            models.CheckConstraint(condition=models.Q(weekday__lte=6), name="weekday_is_known"),
        ]

    def __str__(self) -> str:
        return f"{WEEKDAYS[self.weekday]} {self.opens_at:%H:%M} to {self.closes_at:%H:%M}"


class Closure(TenantOwned):
    """Days on which the business is closed, both included."""

    first_date = models.DateField()
    last_date = models.DateField()
    reason = models.CharField(max_length=120, blank=True)

    class Meta:
        ordering = ["first_date"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(last_date__gte=models.F("first_date")), name="closure_has_an_order"
            )
        ]

    def __str__(self) -> str:
        return f"{self.first_date} to {self.last_date}"


class Service(TenantOwned):
    """Something that can be booked."""

    name = models.CharField(max_length=80)
    duration_minutes = models.PositiveSmallIntegerField(
        default=30, validators=[MinValueValidator(5), MaxValueValidator(24 * 60)]
    )
    price_cents = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: not told.")
    resource = models.CharField(
        max_length=40, default="main", help_text="What it occupies: services with the same resource exclude each other."
    )
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint("tenant", Lower("name"), name="one_service_per_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def duration(self) -> datetime.timedelta:
        return datetime.timedelta(minutes=self.duration_minutes)


class AppointmentQuerySet(TenantQuerySet):
    def booked(self) -> AppointmentQuerySet:
        return self.filter(status=Appointment.Status.BOOKED)

    def between(self, start: datetime.datetime, end: datetime.datetime) -> AppointmentQuerySet:
        """Appointments that overlap [start, end)."""
        return self.filter(starts_at__lt=end, ends_at__gt=start)

    def of_phone(self, phone: str) -> AppointmentQuerySet:
        return self.filter(contact__phone=phone)


class Appointment(TenantOwned):
    """Somebody coming at a time. Two booked ones on the same resource never overlap: the database refuses it."""

    class Status(models.TextChoices):
        BOOKED = "booked"
        CANCELLED = "cancelled"

    service = TenantForeignKey(Service, on_delete=models.PROTECT, related_name="appointments")
    contact = TenantForeignKey(Contact, on_delete=models.PROTECT, related_name="appointments")
    name = models.CharField(max_length=120, blank=True, help_text="Who comes: one number may book for several people.")
    resource = models.CharField(max_length=40)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.BOOKED)
    notes = models.CharField(max_length=500, blank=True)
    call_id = models.UUIDField(null=True, editable=False, help_text="The call in which it was made.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantManager.from_queryset(AppointmentQuerySet)()

    class Meta:
        ordering = ["starts_at"]
        indexes = [models.Index(fields=["tenant", "starts_at"], name="appointments_by_time")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="appointment_takes_time"
            ),
            ExclusionConstraint(
                name="no_double_booking",
                expressions=[
                    ("tenant", RangeOperators.EQUAL),
                    ("resource", RangeOperators.EQUAL),
                    (
                        Func(
                            "starts_at",
                            "ends_at",
                            RangeBoundary(),
                            function="TSTZRANGE",
                            output_field=DateTimeRangeField(),
                        ),
                        RangeOperators.OVERLAPS,
                    ),
                ],
                condition=models.Q(status="booked"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.service} at {self.starts_at:%Y-%m-%d %H:%M}"

    @property
    def who(self) -> str:
        return self.name or str(self.contact)

    def cancel(self) -> None:
        self.status = self.Status.CANCELLED
        self.save(update_fields=["status"])

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.resource = self.resource or self.service.resource
        self.name = self.name or self.contact.name
        super().save(*args, **kwargs)
