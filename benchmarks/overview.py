"""How long a tenant waits for the overview over many calls, through the real web process."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections, models

from benchmarks.figures import Figure, percentile
from benchmarks.installation import demo_tenant
from billing.models import Usage
from provisioning.models import CostEntry
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from voice.days import rebuild_days
from voice.models import Call, Session, Turn
from web.figures import SPANS
from web.seeding import OWNER

CALLS = 100_000
REQUESTS = 30
COPIED = (Call, Turn, Session, Usage, CostEntry)
REFERENCES = ("call_id", "session_id")
SPREAD_SECONDS = 86_400
"""Copies of a call lie over the day before it."""


def measure() -> Iterator[Figure]:
    tenant = demo_tenant()
    count = multiply_history(tenant)
    cookie = _sign_in()
    for span in SPANS.values():
        address = f"{settings.PUBLIC_URL}/t/{tenant.slug}/?span={span.name}"
        _fetch(address, cookie)  # the first request of a process loads templates
        times = [_fetch(address, cookie) for _ in range(REQUESTS)]
        yield Figure(f"overview of {span.label} over {count:,} calls, p50", percentile(times, 0.5), samples=REQUESTS)
        yield Figure(
            f"overview of {span.label} over {count:,} calls, p95", percentile(times, 0.95), goal=200, samples=REQUESTS
        )


def multiply_history(tenant: Tenant) -> int:
    """Copy the calls of the demo's history, with all that hangs on them, until there are enough."""
    with enter_tenant(tenant.id):
        ended = Call.objects.ended().count()
        copies = max(0, -(-CALLS // ended) - 1)
        with connections["default"].cursor() as cursor:
            for model in COPIED:
                cursor.execute(_copy_statement(model), {"copies": copies, "spread": SPREAD_SECONDS})
        rebuild_days()
        total = Call.objects.ended().count()
    with connections["owner"].cursor() as cursor:
        # What autovacuum does by and by.
        cursor.execute("VACUUM ANALYZE")
    return total


def _copy_statement(model: type[models.Model]) -> str:
    values = {field.column: _copied(field, model) for field in model._meta.local_concrete_fields}
    only_of_calls = "row.call_id IS NOT NULL" if model is CostEntry else "true"
    return (
        f"INSERT INTO {model._meta.db_table} ({', '.join(values)}) "
        f"SELECT {', '.join(values.values())} "
        f"FROM {model._meta.db_table} AS row, generate_series(1, %(copies)s) AS copy WHERE {only_of_calls}"
    )


def _copied(field: models.Field[Any, Any], model: type[models.Model]) -> str:
    column = f"row.{field.column}"
    if field.column == "id" or field.column in REFERENCES:
        return f"md5({column}::text || copy)::uuid"
    if field.column == "idempotency_key":
        return "'call:' || md5(row.call_id::text || copy)::uuid" if model is Usage else f"{column} || '-' || copy"
    if field.unique and model is Call:
        raise NotImplementedError(f"{field.column} is unique")
    if isinstance(field, models.DateTimeField):
        return f"{column} - make_interval(secs => (copy * 5413) %% %(spread)s)"
    return column


def _sign_in() -> str:
    user = User.objects.get(email=OWNER)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


def _fetch(address: str, cookie: str) -> float:
    """Return the milliseconds from the request to the last byte of the page."""
    request = urllib.request.Request(address, headers={"Cookie": cookie})
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=60) as answer:
        page = answer.read()
    elapsed = 1000 * (time.monotonic() - began)
    assert b"</html>" in page and answer.url == address, answer.url
    return elapsed
