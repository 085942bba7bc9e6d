"""What a telephony process writes of a leg: by the ORM, in a few threads of its own, since it is little and seldom."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections
from django.db.models import Q

from tenants.scope import enter_tenant
from voice.models import Call
from voice.telephony import words
from voice.telephony.bridge import Ending, EndKind, Figures
from voice.telephony.clips import find_clip
from voice.telephony.ending import finish_leg
from voice.telephony.models import Carrier, TelephoneLeg, TelephoneNumber

Result = TypeVar("Result")

DATABASE_THREADS = 4
_threads = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="telephony-database")


async def beside_the_loop(work: Callable[[], Result]) -> Result:
    """Run a function that asks the database beside the event loop."""

    def run() -> Result:
        # A connection that the database closed meanwhile is opened anew.
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()
        return work()

    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_threads, functools.partial(context.run, run))


async def in_tenant(tenant_id: uuid.UUID, work: Callable[[], Result]) -> Result:
    """Do the same with a tenant entered."""

    def run() -> Result:
        with enter_tenant(tenant_id):
            return work()

    return await beside_the_loop(run)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


class StoredLeg:
    """See voice.telephony.bridge.LegRecord."""

    def __init__(self, tenant_id: uuid.UUID, leg_id: uuid.UUID) -> None:
        self.tenant_id = tenant_id
        self.leg_id = leg_id
        self._call_id: uuid.UUID | None = None

    async def answered(self) -> bool:
        """Write that the leg is there to talk; return whether there is such a one, and it was not over before."""

        def write() -> bool:
            leg = TelephoneLeg.objects.select_for_update().filter(pk=self.leg_id).first()
            if leg is None or leg.is_finished or leg.end_kind:
                return False
            leg.answer()
            return True

        return await in_tenant(self.tenant_id, write)

    async def refused(self, codec: str) -> None:
        """Write that nobody can talk on the leg, since its sound is of another codec."""

        def write() -> None:
            TelephoneLeg.objects.filter(pk=self.leg_id, call=None, end_kind="").update(
                end_kind=EndKind.REFUSED.value, codec=codec[:16]
            )

        await in_tenant(self.tenant_id, write)

    async def began(self, call_id: uuid.UUID) -> None:
        self._call_id = call_id

        def write() -> None:
            # The gateway's row stands before it says so.
            if Call.objects.filter(pk=call_id).exists():
                TelephoneLeg.objects.filter(pk=self.leg_id).update(call_id=call_id)

        await in_tenant(self.tenant_id, write)

    async def find_transfer(self) -> str | None:
        def look() -> str | None:
            leg = TelephoneLeg.objects.get(pk=self.leg_id)
            return TelephoneNumber.objects.filter(number=leg.our_number).values_list("forwards_to", flat=True).first()

        return await in_tenant(self.tenant_id, look) or None

    async def find_words(self, ending: Ending) -> bytes | None:
        sentence = words.after(ending.kind, ending.close_code)

        def look() -> bytes | None:
            # Elsewhere the carrier speaks: it asks what to say once the leg is over.
            is_ours = TelephoneLeg.objects.filter(pk=self.leg_id, carrier=Carrier.SIP).exists()
            return find_clip(sentence) if sentence and is_ours else None

        return await in_tenant(self.tenant_id, look) if sentence else None

    async def finish(self, *, status: str, seconds: int | None = None, problem: str = "") -> None:
        """Write that the leg is over, where no carrier tells; `seconds` since it was answered."""

        def write() -> None:
            finish_leg(TelephoneLeg.objects.get(pk=self.leg_id), status=status, seconds=seconds, problem=problem)

        await in_tenant(self.tenant_id, write)

    async def ended(self, ending: Ending, figures: Figures) -> None:
        def write() -> None:
            # Another process may hold this leg, with a call: what got none does not write over that.
            of_this_call = Q(call=None) | Q(call=self._call_id)
            TelephoneLeg.objects.filter(of_this_call, pk=self.leg_id).update(
                end_kind=ending.kind.value,
                close_code=ending.close_code,
                transferred_to=ending.transferred_to,
                codec=figures.codec,
                packets_received=figures.packets_received,
                packets_lost=figures.packets_lost,
                packets_late=figures.packets_late,
                frames_concealed=figures.frames_concealed,
                jitter_ms=round(figures.jitter_ms, 2),
                bridge_ms_p50=figures.bridge_ms_p50,
                bridge_ms_p99=figures.bridge_ms_p99,
                peer_packets_lost=figures.report and figures.report.packets_lost,
                peer_jitter_ms=figures.report and round(figures.report.jitter_ms, 2),
                round_trip_ms=figures.report and _rounded(figures.report.round_trip_ms),
            )

        await in_tenant(self.tenant_id, write)
