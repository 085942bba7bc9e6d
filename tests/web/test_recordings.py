"""A call's recording on its page: who may hear it, in parts and as a whole, and what the audit trail says of it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from content import recordings
from content.keys import delete_content_key
from content.models import Recording
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.recording_stores import Objects, Store
from tests.web import factories
from voice.models import Call

SOUND = b"OggS" + bytes(range(256)) * 1000


@pytest.fixture
def recorded(acme: Tenant, store: Store) -> Call:
    with enter_tenant(acme.id):
        call = factories.create_call(factories.create_agent())
        recording = Recording.objects.create(call_id=call.pk, stopped_at=timezone.now())
        recordings.keep_file(recording, SOUND, duration_ms=42_000, begins_at_ms=400)
        return call


def address(call: Call) -> str:
    return f"/t/acme/calls/{call.pk}/recording/"


def trail(tenant: Tenant) -> list[tuple[str, str]]:
    with enter_tenant(tenant.id):
        entries = AuditEntry.objects.filter(action__startswith="recording.").order_by("occurred_at")
        return list(entries.values_list("action", "actor_name"))


def test_a_member_hears_it_as_a_whole(client_of: Any, acme: Tenant, recorded: Call, bob: User) -> None:
    answer = client_of(bob).get(address(recorded))
    assert (answer.status_code, answer.content) == (200, SOUND)
    assert answer.headers["Content-Type"] == "audio/ogg"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "no-store" in answer.headers["Cache-Control"] and "private" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-", 0, len(SOUND)),
        ("bytes=0-0", 0, 1),
        ("bytes=100-70000", 100, 70_001),
        ("bytes=200000-999999999", 200_000, len(SOUND)),
        ("bytes=-500", len(SOUND) - 500, len(SOUND)),
        ("bytes=-999999999", 0, len(SOUND)),
    ],
)
def test_a_player_gets_the_part_that_it_asks_for(
    client_of: Any, recorded: Call, bob: User, asked: str, begin: int, end: int
) -> None:
    answer = client_of(bob).get(address(recorded), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, SOUND[begin:end])
    assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(SOUND)}"


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=0-1,5-6", "seconds=1-2", "bytes=x-y", ""])
def test_what_is_no_range_gets_the_whole(client_of: Any, recorded: Call, bob: User, asked: str) -> None:
    answer = client_of(bob).get(address(recorded), headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(SOUND))


@pytest.mark.parametrize("asked", [f"bytes={len(SOUND)}-", "bytes=9-3", "bytes=-0"])
def test_a_part_that_is_not_there_is_refused(
    client_of: Any, acme: Tenant, recorded: Call, bob: User, asked: str
) -> None:
    answer = client_of(bob).get(address(recorded), headers={"Range": asked})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{len(SOUND)}")
    assert trail(acme) == []


def test_an_outsider_and_a_visitor_hear_nothing(
    client_of: Any, acme: Tenant, rival: Tenant, recorded: Call, charlie: User, visitor: Any
) -> None:
    outsider = client_of(charlie)
    assert outsider.get(address(recorded)).status_code == 404
    assert outsider.get(f"/t/rival/calls/{recorded.pk}/recording/").status_code == 404
    assert visitor.get(address(recorded)).status_code == 302
    assert trail(acme) == trail(rival) == []


def test_listening_is_one_entry_in_the_audit_trail_and_each_download_another(
    client_of: Any, acme: Tenant, recorded: Call, alice: User, bob: User
) -> None:
    for _ in range(3):
        client_of(bob).get(address(recorded), headers={"Range": "bytes=0-99"})
    answer = client_of(alice).get(f"{address(recorded)}?download")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="call-')
    client_of(alice).get(f"{address(recorded)}?download")
    client_of(alice).head(address(recorded))
    assert trail(acme) == [
        ("recording.listened", bob.email),
        ("recording.downloaded", alice.email),
        ("recording.downloaded", alice.email),
    ]


def test_what_was_deleted_cannot_be_heard_and_the_page_says_so(
    client_of: Any, acme: Tenant, recorded: Call, bob: User
) -> None:
    with enter_tenant(acme.id):
        recordings.delete_recording(Recording.objects.get())
    assert client_of(bob).get(address(recorded)).status_code == 404
    page = client_of(bob).get(f"/t/acme/calls/{recorded.pk}/").content.decode()
    assert "its recording was deleted" in page and "<audio" not in page


def test_nothing_can_be_heard_once_the_tenants_key_is_gone(
    client_of: Any, acme: Tenant, recorded: Call, bob: User
) -> None:
    with enter_tenant(acme.id):
        delete_content_key()
    assert client_of(bob).get(address(recorded)).status_code == 404
    assert trail(acme) == []


def test_a_store_that_is_away_is_said_to_be_away(
    client_of: Any, acme: Tenant, objects: Objects, keep_recordings_in: Any, bob: User
) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(factories.create_agent())
        Recording.objects.create(call_id=call.pk, stopped_at=timezone.now(), state="ready", file="a/b", bytes=9)
    keep_recordings_in({**objects.settings, "OPTIONS": {**objects.server.options, "read_seconds": 0.3}})
    objects.server.freeze()
    try:
        answer = client_of(bob).get(address(call))
    finally:
        objects.server.thaw()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert "does not answer at the moment" in answer.content.decode()
    # It is back, and has no such object.
    assert client_of(bob).get(address(call)).status_code == 404
    assert trail(acme) == []


def test_a_line_is_heard_from_where_it_begins(client_of: Any, acme: Tenant, recorded: Call, bob: User) -> None:
    page = client_of(bob).get(f"/t/acme/calls/{recorded.pk}/").content.decode()
    assert "<audio" in page and f'src="{address(recorded)}"' in page
    # The greeting began at 430 ms and the first reply at 5,000; the recording begins at 400.
    assert 'data-seek="0.03"' in page and 'data-seek="4.6"' in page


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": "recording"}, "is being made ready"),
        ({"state": "failed"}, "nothing to be heard"),
        ({"state": "recording", "problem": "The storage took no more."}, "The storage took no more."),
    ],
)
def test_the_page_says_how_a_recording_stands(
    client_of: Any, acme: Tenant, bob: User, fields: dict[str, str], words: str
) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(factories.create_agent())
        Recording.objects.create(call_id=call.pk, stopped_at=timezone.now() - datetime.timedelta(seconds=1), **fields)
    assert words in client_of(bob).get(f"/t/acme/calls/{call.pk}/").content.decode()


def test_a_call_that_was_not_recorded_says_nothing_of_it(client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(factories.create_agent())
    page = client_of(bob).get(f"/t/acme/calls/{call.pk}/").content.decode()
    assert "data-recording" not in page and "data-seek" not in page
    assert client_of(bob).get(address(call)).status_code == 404
