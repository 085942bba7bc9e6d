"""Legs of which nothing more is heard: asked about, dialled after all, or given up. Beat drives it."""

from __future__ import annotations

import datetime

import structlog
from celery import shared_task
from django.db.models import Q
from django.utils import timezone

from tenants.scope import enter_operator
from tenants.tasks import TenantTask, every
from voice.models import Call
from voice.telephony.carriers import CARRIERS, account_of
from voice.telephony.carriers.contract import CarrierRefused
from voice.telephony.ending import finish_leg
from voice.telephony.models import TelephoneLeg
from voice.telephony.outbound import dial

log = structlog.get_logger(__name__)

QUIET_SECONDS = 120
"""A leg whose call is over, or never began, has no news for so long before it is asked about."""
GIVEN_UP_SECONDS = 600
"""Who waits for longer to be dialled is not called any more; what its carrier knows nothing of is over."""


@shared_task(name="voice.telephony.sweep_legs")
def sweep_legs() -> int:
    """Have each leg looked at that should be over, and return how many. Crosses tenants, as the operator's role."""
    quiet_since = timezone.now() - datetime.timedelta(seconds=QUIET_SECONDS)
    with enter_operator("beat", reason="sweep legs"):
        found = list(
            TelephoneLeg.objects.unfinished()
            .filter(Q(call=None) | Q(call__status=Call.Status.ENDED), rang_at__lt=quiet_since)
            .values_list("tenant_id", "pk")[:500]
        )
    for tenant_id, leg_id in found:
        settle_leg.delay(tenant_id=str(tenant_id), leg_id=str(leg_id))
    return len(found)


@shared_task(base=TenantTask, name="voice.telephony.settle_leg")
def settle_leg(*, leg_id: str) -> None:
    """Ask the carrier how a leg ended; dial one that waits; give up what nobody knows of."""
    leg = TelephoneLeg.objects.unfinished().filter(pk=leg_id).first()
    if leg is None:
        return
    is_old = (timezone.now() - leg.rang_at).total_seconds() > GIVEN_UP_SECONDS
    if leg.carrier in CARRIERS and leg.carrier_ref:
        account = account_of(leg.carrier)
        try:
            if account is not None:
                state = CARRIERS[leg.carrier].api.fetch_call(account, leg.carrier_ref)
                if state.status is not None:
                    finish_leg(leg, status=state.status, seconds=state.seconds)
                return
        except CarrierRefused as problem:
            log.warning("telephony.not_settled", leg=leg_id, problem=str(problem))
            if not problem.permanent:
                return
    elif leg.status == TelephoneLeg.Status.WAITING and not is_old:
        dial.delay(tenant_id=str(leg.tenant_id), leg_id=leg_id)
        return
    if is_old:
        finish_leg(leg, status=TelephoneLeg.Status.FAILED, problem="Nothing more was heard of it.")


BEAT_SCHEDULE = {"sweep legs": every(60.0, "voice.telephony.sweep_legs")}
