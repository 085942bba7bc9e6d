"""The page of a business: its name and its time zone."""

from __future__ import annotations

import datetime
from typing import Any

from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.web.factories import create_agent, create_call
from voice.days import rebuild_days
from voice.models import CallDay

ADDRESS = "/t/acme/business/"


def test_an_admin_renames_the_business_and_moves_it_to_another_time_zone(
    client_of: Any, acme: Tenant, alice: User
) -> None:
    with enter_tenant(acme.id):
        # 02:30 in London, and the evening before in New York
        create_call(create_agent(), started_at=datetime.datetime(2026, 3, 1, 2, 30, tzinfo=datetime.UTC))
        rebuild_days()
    page = client_of(alice).get(ADDRESS).content.decode()
    assert '<option value="UTC" selected>' in page and '<option value="America/Argentina/Salta"' in page
    answer = client_of(alice).post(ADDRESS, {"name": "Acme Hair", "time_zone": "America/New_York"}, follow=True)
    page = answer.content.decode()
    assert "Saved." in page and "<span>Acme Hair" in page and '<option value="America/New_York" selected>' in page
    with enter_tenant(acme.id):
        kept = Tenant.objects.get(pk=acme.pk)
        assert (kept.name, kept.slug, kept.time_zone) == ("Acme Hair", "acme", "America/New_York")
        assert [day.day_date for day in CallDay.objects.all()] == [datetime.date(2026, 2, 28)]
        assert {entry.action: entry.details["to"] for entry in AuditEntry.objects.filter(target="acme")} == {
            "tenant.renamed": "Acme Hair",
            "tenant.time_zone_changed": "America/New_York",
        }


def test_what_cannot_be_is_said_and_changes_nothing(client_of: Any, acme: Tenant, alice: User) -> None:
    for sent, sentence in (
        ({"name": " ", "time_zone": "Europe/Paris"}, "This field is required."),
        ({"name": "A" * 121, "time_zone": "Europe/Paris"}, "at most 120 characters"),
        ({"name": "Acme Hair", "time_zone": "Mars/Olympus"}, "Select a valid choice."),
    ):
        answer = client_of(alice).post(ADDRESS, sent)
        page = answer.content.decode()
        assert answer.status_code == 422 and sentence in page and "<span>Acme<" in page
    with enter_tenant(acme.id):
        kept = Tenant.objects.get(pk=acme.pk)
        assert (kept.name, kept.time_zone) == ("Acme", "UTC")
        assert not AuditEntry.objects.filter(target="acme").exists()


def test_saving_what_is_there_is_no_change(client_of: Any, acme: Tenant, alice: User) -> None:
    client_of(alice).post(ADDRESS, {"name": "Acme", "time_zone": "UTC"}, follow=True)
    with enter_tenant(acme.id):
        assert not AuditEntry.objects.filter(target="acme").exists()
