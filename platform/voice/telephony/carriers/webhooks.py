"""What carriers ask us over HTTP: whom a ring goes to, what comes after a stream, and how a call went.

Each request is believed by its signature alone, which the tenant's own account makes. The address that is signed is
TELEPHONY_WEBHOOK_URL's, whatever a proxy made of it.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from tenants.access import internal_access
from tenants.scope import enter_tenant
from voice.telephony import ending, words
from voice.telephony.bridge import EndKind
from voice.telephony.carriers import CARRIERS, account_of
from voice.telephony.carriers.contract import HostedCarrier, Said, webhook
from voice.telephony.models import TelephoneLeg, TelephoneNumber
from voice.telephony.routing import CallDeclined, choose_agent, find_tenant_of, grant

log = structlog.get_logger(__name__)

View = Callable[..., HttpResponse]


def from_carrier(view: View) -> View:
    """Enter the tenant whose number the request names and whose account signed it; everybody else gets 403.

    The view gets the carrier's name, and what it says.
    """

    @internal_access("The carrier's signature, made with the tenant's own account, is checked here")
    @csrf_exempt
    @require_POST
    @functools.wraps(view)
    def checked(request: HttpRequest, carrier: str, **arguments: Any) -> HttpResponse:
        hosted = CARRIERS.get(carrier)
        # All carriers post such forms. Of another one, the body that is signed could not be read any more.
        if hosted is not None and request.content_type == "application/x-www-form-urlencoded":
            said = hosted.read(request.POST)
            # Of an inbound call the number called is ours, of an outbound one the caller's.
            for number in (said.to, said.caller):
                tenant_id = None if "\0" in number else find_tenant_of(number)  # PostgreSQL takes no such text
                if tenant_id is None or not said.call_ref:
                    continue
                with enter_tenant(tenant_id):
                    if _is_from(hosted, carrier, said, request):
                        return view(carrier, said, **arguments)
        log.warning("carrier.refused", path=request.path)
        return HttpResponse("The signature is not that of an account known here.", status=403)

    return checked


def _is_from(hosted: HostedCarrier, carrier: str, said: Said, request: HttpRequest) -> bool:
    account = account_of(carrier)
    if account is None or (said.account_ref and account.account_ref not in ("", said.account_ref)):
        return False
    if not hosted.is_signed(account, request, settings.TELEPHONY_WEBHOOK_URL + request.get_full_path()):
        return False
    if not account.account_ref and said.account_ref:  # Telnyx' keys do not tell the account's name
        account.account_ref = said.account_ref[:64]
        account.save(update_fields=["account_ref"])
    return True


@from_carrier
def voice(carrier: str, said: Said) -> HttpResponse:
    """Answer a ring: with a stream to an agent, or a message."""
    number = (
        TelephoneNumber.objects.select_related("agent", "outside_agent").filter(number=said.to, carrier=carrier).first()
    )
    if number is None:
        return _answer(CARRIERS[carrier].markup.hang_up())
    # Carriers ask again where an answer was lost on the way.
    leg, _ = TelephoneLeg.objects.get_or_create(
        carrier=carrier,
        carrier_ref=said.call_ref,
        defaults={"our_number": number.number, "other_number": said.caller[:120]},
    )
    try:
        leg.agent = choose_agent(number, at=timezone.now())
        leg.save(update_fields=["agent"])
        return _stream(leg)
    except CallDeclined as problem:
        return _answer(CARRIERS[carrier].markup.say(str(problem)))


@from_carrier
def answered(carrier: str, said: Said, leg_id: uuid.UUID) -> HttpResponse:
    """Somebody, or something, took a call that an agent placed."""
    markup = CARRIERS[carrier].markup
    leg = _find_placed(carrier, said, leg_id)
    if leg is None or leg.is_finished or leg.agent is None:
        return _answer(markup.hang_up())
    leg.answered_by = said.answered_by[:24]
    leg.save(update_fields=["answered_by"])
    _take_answer(leg, said)
    if leg.answered_by.startswith("machine") or leg.answered_by == "fax":
        return _answer(markup.hang_up())
    try:
        return _stream(leg)
    except CallDeclined:
        return _answer(markup.hang_up())


@from_carrier
def after(carrier: str, said: Said) -> HttpResponse:
    """The stream has ended: put the caller through, say why there is no agent, or hang up."""
    markup = CARRIERS[carrier].markup
    leg = TelephoneLeg.objects.filter(carrier=carrier, carrier_ref=said.call_ref).first()
    if leg is None:
        return _answer(markup.hang_up())
    if leg.end_kind == EndKind.TRANSFERRED and leg.transferred_to:
        then = webhook(carrier, "dialled")
        return _answer(markup.dial(leg.transferred_to, caller_id=leg.our_number, then=then))
    if not leg.end_kind:  # no process took the stream: all are full, or there is none
        return _answer(markup.say(words.BUSY))
    sentence = words.after(leg.end_kind, leg.close_code)
    return _answer(markup.say(sentence) if sentence else markup.hang_up())


@from_carrier
def dialled(carrier: str, said: Said) -> HttpResponse:
    """The person whom a caller was put through to has hung up, or never answered."""
    markup = CARRIERS[carrier].markup
    leg = TelephoneLeg.objects.filter(carrier=carrier, carrier_ref=said.call_ref).first()
    if leg is not None:
        ending.record_person(leg, carrier_ref=said.person_ref, status=said.person_status, seconds=said.person_seconds)
    was_there = said.person_status == TelephoneLeg.Status.COMPLETED
    return _answer(markup.hang_up() if was_there else markup.say(words.NOBODY))


@from_carrier
def status(carrier: str, said: Said) -> HttpResponse:
    """Take in how a call goes. What has ended without a goodbye ends here."""
    return _take_in(TelephoneLeg.objects.filter(carrier=carrier, carrier_ref=said.call_ref).first(), said)


@from_carrier
def placed_status(carrier: str, said: Said, leg_id: uuid.UUID) -> HttpResponse:
    """Do the same for a call that an agent placed: it may be over before its carrier has told us its name."""
    return _take_in(_find_placed(carrier, said, leg_id), said)


def _find_placed(carrier: str, said: Said, leg_id: uuid.UUID) -> TelephoneLeg | None:
    """Return the leg of a placed call that an address names, where what is said can be of that call.

    An address alone proves little: Telnyx does not sign it, and it may be told of the person whom somebody was put
    through to. Until the answer a call's name proves nothing either: Plivo's request has another.
    """
    leg = TelephoneLeg.objects.select_related("agent").filter(pk=leg_id, carrier=carrier).first()
    if leg is None or said.to != leg.other_number:
        return None
    if leg.answered_at is not None and said.call_ref != leg.carrier_ref:
        return None
    is_anothers = TelephoneLeg.objects.filter(carrier=carrier, carrier_ref=said.call_ref).exclude(pk=leg_id).exists()
    return None if is_anothers else leg


def _take_answer(leg: TelephoneLeg, said: Said) -> None:
    if leg.answered_at is None and not leg.is_finished:
        leg.carrier_ref = said.call_ref
        leg.save(update_fields=["carrier_ref"])
        leg.answer()


def _take_in(leg: TelephoneLeg | None, said: Said) -> HttpResponse:
    if leg is not None and said.status in TelephoneLeg.FINISHED:
        ending.finish_leg(leg, status=said.status, seconds=said.seconds)
    elif leg is not None and said.status == TelephoneLeg.Status.ANSWERED:
        _take_answer(leg, said)
    elif leg is not None and said.status == TelephoneLeg.Status.RINGING and leg.status == TelephoneLeg.Status.WAITING:
        leg.status, leg.rang_at = said.status, timezone.now()
        leg.save(update_fields=["status", "rang_at"])
    return HttpResponse(status=204)


def _stream(leg: TelephoneLeg) -> HttpResponse:
    """Answer with a stream to the telephony process; when that closes it, the carrier asks `after`.

    Raises:
        CallDeclined
    """
    assert leg.agent is not None
    granted = grant(leg, leg.agent)
    hosted = CARRIERS[leg.carrier]
    return _answer(
        hosted.markup.stream(
            f"{settings.TELEPHONY_URL}/{leg.carrier}",
            {"leg": granted.leg_token, "ticket": granted.ticket},
            then=webhook(leg.carrier, "after"),
            **hosted.stream_attributes,
        )
    )


def _answer(markup: str) -> HttpResponse:
    return HttpResponse(markup, content_type="text/xml")
