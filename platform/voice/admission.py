"""Who may call: a ticket or an agent's public key, the tenant's standing and its free lines. Two round trips.

The Call row and its lease are written in the transaction that decided, so that a tenant's limit holds for any number of
gateways. The fleet's limit may be passed by as many calls as are being admitted at one time. It knows nothing of
sockets.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import class_row, namedtuple_row
from psycopg_pool import AsyncConnectionPool

from agents.engines import worker_of
from gpu_workers.protocol import CloseCode
from provisioning.placing import PLACES, Place, in_order
from tenants.models import hash_secret
from voice import statements
from voice.options import Options


class Refused(Exception):
    """No call begins; the caller is told the close code."""

    def __init__(self, close_code: CloseCode) -> None:
        super().__init__(close_code.reason)
        self.close_code = close_code


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What a caller came with. `kind`: `ticket`, `public_key` or `resume_token`; `origin` is empty where no browser
    sent one; `can_resume`: the client comes back by itself when its connection is lost."""

    kind: str
    secret: str = dataclasses.field(repr=False)
    origin: str = ""
    address: str = ""
    can_resume: bool = False
    region: str = ""
    """Near the caller, where that is known."""
    received_at: datetime.datetime = dataclasses.field(default_factory=lambda: datetime.datetime.now(datetime.UTC))


@dataclasses.dataclass(frozen=True, slots=True)
class Admitted:
    """An opened call, and all that is needed to place it and to tell a worker who to be."""

    call_id: uuid.UUID
    epoch: int
    tenant_id: uuid.UUID
    tenant_name: str
    time_zone: str
    region: str
    agent_id: uuid.UUID
    agent_slug: str
    agent_name: str
    channel: str
    engine: str
    config: dict[str, Any]
    max_seconds: int
    puts_through: bool
    resume_token: str = dataclasses.field(repr=False)
    can_resume: bool = False
    seconds_left: float | None = None
    """Of conversation in the tenant's period, for all its calls; None: there is no end."""
    live_calls: int = 0
    """Of the tenant, with this one; 0: nobody has counted."""
    places: Sequence[Place] = ()
    """Where its worker can be, in the order in which to try."""


LONGEST_PUBLIC_KEY = 40
"""Of agents.Agent: nothing longer is one, nor worth remembering."""


def read_path(path: str) -> tuple[str, str] | None:
    """Return (kind, secret) of a caller's address.

    They are `/call/TICKET/api/chat`, `/agent/PUBLIC_KEY/api/chat` and `/call/resume/TOKEN/api/chat`.
    """
    match path.strip("/").split("/"):
        case ["call", ticket, "api", "chat"]:
            return "ticket", ticket
        # The database refuses NUL.
        case ["agent", public_key, "api", "chat"] if "\0" not in public_key and len(public_key) <= LONGEST_PUBLIC_KEY:
            return "public_key", public_key
        case ["call", "resume", token, "api", "chat"]:
            return "resume_token", token
    return None


class Crowded(Exception):
    """Another admission of the same tenant is under way; nothing was done."""

    def __init__(self, tenant_id: uuid.UUID) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id


async def admit(pool: AsyncConnectionPool[Any], request: Request, options: Options, *, wait: bool) -> Admitted:
    """Decide on a request and open its call. `wait`: for other admissions of the same tenant.

    Raises:
        Refused
        Crowded: there are such, and it is not to wait.
        psycopg.Error: the database cannot be reached.
    """
    secret = hash_secret(request.secret) if request.kind == "ticket" else request.secret
    limits = {"tenant_calls_per_minute": options.tenant_calls_per_minute, "fleet_calls": options.fleet_calls}
    refusal: CloseCode | None
    async with pool.connection() as connection, connection.pipeline():
        async with connection.transaction():
            door, asked = (connection.cursor(row_factory=namedtuple_row) for _ in range(2))
            # One admission at a time for each tenant, or two callers could both take its last line.
            enter_by = statements.ENTER_BY if wait else statements.TRY_ENTER_BY
            await door.execute(enter_by[request.kind], {"secret": secret})
            await asked.execute(statements.ADMISSION_BY[request.kind], {"secret": secret, **limits})
            entered, standing = await door.fetchone(), await asked.fetchone()
            if entered is not None and not entered.admits:
                raise Crowded(entered.tenant_id)
            refusal = _refusal(request, entered, standing)
            # A ticket stays used when its call is refused.
            if refusal is None:
                admitted = _admitted(request, entered, standing, options)
                await _open(connection, admitted, standing, request, options)
                found = connection.cursor(row_factory=class_row(Place))
                await found.execute(PLACES, {"worker": worker_of(admitted.engine)})
        if refusal is None:
            # Not sooner: what is asked for inside the transaction would be a trip of its own before its end.
            places = in_order(await found.fetchall(), admitted.region)
    if refusal is not None:
        raise Refused(refusal)
    return dataclasses.replace(admitted, places=places)


def _refusal(request: Request, entered: Any, standing: Any) -> CloseCode | None:
    """See also: billing.entitlements, which decides the same for pages."""
    if entered is None:
        return CloseCode.TICKET_UNKNOWN if request.kind == "ticket" else CloseCode.AGENT_UNKNOWN
    if standing is None or standing.version_id is None or standing.archived:
        return CloseCode.AGENT_UNKNOWN
    if not _origin_is_allowed(request, entered, standing):
        return CloseCode.ORIGIN_REFUSED
    if standing.tenant_status != "active" or standing.subscription_status is None:
        return CloseCode.TENANT_SUSPENDED
    if standing.calls_have_ended:
        return CloseCode.TRIAL_EXPIRED if standing.subscription_status == "trialing" else CloseCode.TENANT_SUSPENDED
    if standing.seconds_left is not None and standing.seconds_left <= 0:
        return CloseCode.SPEND_CAP
    if request.kind == "public_key" and standing.calls_last_minute >= standing.calls_per_minute:
        return CloseCode.RATE_LIMITED
    if standing.tenant_calls_too_often:
        return CloseCode.RATE_LIMITED
    if standing.lines_taken >= standing.max_concurrent_calls:
        return CloseCode.TENANT_BUSY
    if standing.fleet_is_full:
        return CloseCode.FLEET_BUSY
    return None


def _origin_is_allowed(request: Request, entered: Any, standing: Any) -> bool:
    if request.kind == "ticket":
        return not entered.origin or _same_origin(entered.origin, request.origin)
    allowed = standing.allowed_origins or []
    return "*" in allowed or any(_same_origin(origin, request.origin) for origin in allowed)


def _same_origin(one: str, other: str) -> bool:
    left = _parts_of_origin(one)
    return left is not None and left == _parts_of_origin(other)


def _parts_of_origin(origin: str) -> tuple[str, str] | None:
    """Return scheme and host with port; None where it is no page's origin, as the `null` of a sandboxed one."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return None
    return (parts.scheme, parts.netloc) if parts.scheme and parts.netloc else None


def _admitted(request: Request, entered: Any, standing: Any, options: Options) -> Admitted:
    asked_seconds = getattr(entered, "max_seconds", None) or options.max_call_seconds
    return Admitted(
        call_id=uuid.uuid4(),
        epoch=1,
        tenant_id=standing.tenant_id,
        tenant_name=standing.tenant_name,
        time_zone=standing.time_zone,
        region=request.region or _region_of_tenant(standing.region) or options.region,
        agent_id=standing.agent_id,
        agent_slug=standing.agent_slug,
        agent_name=standing.agent_name,
        channel=getattr(entered, "channel", "api"),
        engine=standing.engine,
        config=standing.config,
        max_seconds=min(asked_seconds, options.max_call_seconds),
        puts_through=getattr(entered, "puts_through", False),
        resume_token=secrets.token_urlsafe(24) if request.can_resume else "",
        can_resume=request.can_resume,
        seconds_left=standing.seconds_left,
        live_calls=standing.lines_taken + 1,
    )


def _region_of_tenant(region: str) -> str:
    """Return where a tenant's callers mostly are. "local" names no place: it is this installation's own."""
    return "" if region == "local" else region


async def _open(
    connection: psycopg.AsyncConnection[Any], admitted: Admitted, standing: Any, request: Request, options: Options
) -> None:
    await connection.execute(
        statements.OPEN_CALL,
        {
            "id": admitted.call_id,
            "tenant_id": admitted.tenant_id,
            "agent_id": admitted.agent_id,
            "version_id": standing.version_id,
            "channel": admitted.channel,
            "region": admitted.region,
            "started_at": request.received_at,
            "caller_address_hash": _address_hash(request.address, options),
            "max_seconds": admitted.max_seconds,
            "resume_token_hash": hash_secret(admitted.resume_token) if admitted.can_resume else "",
            "lease_seconds": options.lease_seconds,
        },
    )


def _address_hash(address: str, options: Options) -> str:
    """Return a name for a caller's address that cannot be turned back without the installation's secret."""
    if not address:
        return ""
    return hmac.new(options.secret_key.encode(), address.encode(), hashlib.sha256).hexdigest()
