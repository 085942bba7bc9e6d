"""What was said is stored under the tenant's key, and is gone with it."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from content import crypto
from content.keys import TenantKeyDeleted, delete_content_key, tenant_key
from content.models import ToolRun, TranscriptLine
from content.transcripts import Line, append_lines
from tenants.models import Tenant
from tenants.scope import enter_tenant, enter_tenant_async

SECRET = "my card number is four two four two"


def write_line(tenant: Tenant, call_id: uuid.UUID, text: str = SECRET) -> None:
    with enter_tenant(tenant.id):
        TranscriptLine.objects.create(call_id=call_id, position=0, turn_index=1, role="caller", text=text)


def test_a_line_reads_back_and_its_column_holds_no_plaintext(acme: Tenant) -> None:
    call_id = uuid.uuid4()
    write_line(acme, call_id)
    with enter_tenant(acme.id):
        assert TranscriptLine.objects.of_call(call_id).get().text == SECRET
        with connection.cursor() as cursor:
            cursor.execute("SELECT text FROM content_transcriptline")
            stored = bytes(cursor.fetchone()[0])
    assert b"card" not in stored
    assert stored[:1] == crypto.VERSION


def test_the_same_words_are_stored_differently_each_time(acme: Tenant) -> None:
    write_line(acme, uuid.uuid4())
    write_line(acme, uuid.uuid4())
    with enter_tenant(acme.id), connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT text) FROM content_transcriptline")
        assert cursor.fetchone() == (2,)


def test_tool_arguments_keep_their_shape(acme: Tenant) -> None:
    arguments = {"name": "Zoë", "when": None, "parts": [1, {"deep": True}], "half": "\ud83d"}
    with enter_tenant(acme.id):
        ToolRun.objects.create(
            call_id=uuid.uuid4(), turn_index=1, name="x", arguments=arguments, result=None, ok=True, duration_ms=1
        )
        assert ToolRun.objects.get().arguments == arguments
        assert ToolRun.objects.get().result is None


def test_one_tenants_key_opens_nothing_of_anothers(acme: Tenant, rival: Tenant) -> None:
    with enter_tenant(acme.id):
        ciphertext = crypto.encrypt(tenant_key(), b"words")
    with enter_tenant(rival.id), pytest.raises(crypto.DecryptionFailed):
        crypto.decrypt(tenant_key(), ciphertext)


@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_changed_ciphertext_is_noticed(position: int) -> None:
    key = crypto.generate_key()
    ciphertext = bytearray(crypto.encrypt(key, b"words"))
    ciphertext[position] ^= 1
    with pytest.raises(crypto.DecryptionFailed):
        crypto.decrypt(key, bytes(ciphertext))


def test_deleting_the_key_deletes_the_content_for_good(acme: Tenant) -> None:
    call_id = uuid.uuid4()
    write_line(acme, call_id)
    with enter_tenant(acme.id):
        delete_content_key()
        with pytest.raises(TenantKeyDeleted):
            TranscriptLine.objects.of_call(call_id).get().text  # noqa: B018
        with pytest.raises(TenantKeyDeleted):
            tenant_key()


async def test_the_gateways_lines_are_read_by_the_pages_and_repeating_them_adds_none(acme: Tenant) -> None:
    call_id = uuid.uuid4()
    lines = [Line(0, 0, "agent", "Hello.", False, 120), Line(1, 1, "caller", SECRET, False, 2400)]
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL, autocommit=True) as raw:
        for _ in range(2):
            async with raw.transaction():
                await enter_tenant_async(raw, acme.id)
                await append_lines(raw, tenant_id=acme.id, call_id=call_id, lines=lines)

    from asgiref.sync import sync_to_async

    def read() -> list[tuple[str, str]]:
        with enter_tenant(acme.id):
            return [(line.role, line.text) for line in TranscriptLine.objects.of_call(call_id)]

    assert await sync_to_async(read)() == [("agent", "Hello."), ("caller", SECRET)]


@pytest.mark.parametrize("setting", ["", "short", "bm90IDMyIGJ5dGVz", "!" * 44])
def test_a_bad_master_key_is_refused_with_what_to_do(setting: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -base64 32"):
        crypto.master_key(setting)
