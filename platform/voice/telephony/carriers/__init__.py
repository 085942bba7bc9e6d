"""The carriers that ring us over HTTP: to add one, its module here, a line below, and a peer in tests/carriers."""

from __future__ import annotations

from voice.telephony import dialects
from voice.telephony.carriers import plivo, telnyx, twilio, twiml
from voice.telephony.carriers.contract import HostedCarrier
from voice.telephony.models import Carrier, CarrierAccount

CARRIERS: dict[str, HostedCarrier] = {
    Carrier.TWILIO: HostedCarrier(
        api=twilio,
        markup=twiml,
        dialect=dialects.TWILIO,
        is_signed=twilio.is_signed,
        read=twiml.read,
        credentials=twilio.CREDENTIALS,
        where="Both stand on the first page of Twilio's console.",
    ),
    # SignalWire takes Twilio's requests, documents and messages, at an address of each customer's own.
    Carrier.SIGNALWIRE: HostedCarrier(
        api=twilio,
        markup=twiml,
        dialect=dialects.TWILIO,
        is_signed=twilio.is_signed_by_signalwire,
        read=twiml.read,
        credentials=twilio.SIGNALWIRE_CREDENTIALS,
        where="All four stand in your space's dashboard, under API Credentials. The token needs the scopes Numbers and "
        "Voice.",
    ),
    Carrier.TELNYX: HostedCarrier(
        api=telnyx,
        markup=twiml,
        dialect=dialects.TELNYX,
        is_signed=telnyx.is_signed,
        read=twiml.read,
        credentials=telnyx.CREDENTIALS,
        where="Both stand in Telnyx' portal, under Keys & Credentials.",
        stream_attributes=telnyx.STREAM_ATTRIBUTES,
    ),
    Carrier.PLIVO: HostedCarrier(
        api=plivo,
        markup=plivo,
        dialect=dialects.PLIVO,
        is_signed=plivo.is_signed,
        read=plivo.read,
        credentials=plivo.CREDENTIALS,
        where="Both stand on the first page of Plivo's console.",
    ),
}


def account_of(carrier: str) -> CarrierAccount | None:
    """Return the entered tenant's account with a carrier."""
    return CarrierAccount.objects.filter(carrier=carrier).first()
