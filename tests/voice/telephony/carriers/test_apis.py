"""What we ask of a carrier's API: its numbers, calls that agents place, and prices."""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import structlog
from django.conf import settings
from django.utils import timezone

from provisioning.models import CostEntry
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers import telnyx as telnyx_stand_in
from tests.voice.telephony.carriers.each import PRICE_NANO_DOLLARS, at_each_carrier
from tests.voice.telephony.conftest import Connect, Exchange
from tests.voice.telephony.legs import finished
from tests.voice.telephony.processes import NUMBER, OTHER_NUMBER, CarrierProcess
from voice.telephony import numbers, outbound, prices, sweeping
from voice.telephony.carriers import CARRIERS
from voice.telephony.models import Carrier, CarrierAccount, TelephoneLeg


@at_each_carrier
def test_a_number_is_found_in_the_account_and_its_webhooks_are_set_once(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, alice: User, number_of: Connect
) -> None:
    first, agent = number_of("whistle")
    here = f"{exchange[2].url}/telephone/{peer.carrier}/voice/"
    assert peer.voice_url_of(NUMBER) == here != peer.voice_url_of(OTHER_NUMBER)
    of = {"carrier": peer.carrier, "agent": agent, "settings": {}, "hours": {}, "actor": alice}
    with enter_tenant(acme.id):
        second = numbers.add_number(number=OTHER_NUMBER, **of)
        assert peer.voice_url_of(OTHER_NUMBER) == here
        with pytest.raises(numbers.NotYourNumber, match=Carrier(peer.carrier).label):
            numbers.add_number(number="+14155550102", **of)
        for number in (first, second):
            numbers.remove_number(number=number, actor=alice)
    if peer.carrier != "telnyx":  # which knows no such request
        assert here not in (peer.voice_url_of(NUMBER), peer.voice_url_of(OTHER_NUMBER))


@at_each_carrier
def test_an_agent_calls_somebody_and_the_end_that_nobody_told_is_asked_about(
    peer: CarrierProcess, acme: Tenant, place: Any, placed: Callable[..., TelephoneLeg]
) -> None:
    leg = placed(steps=[{"hear": 0.3}, {"hang_up": True}])
    sid = peer.last_call()
    outbound.dial(tenant_id=str(acme.id), leg_id=str(leg.pk))  # as a broker may, again
    assert sid and sid == peer.last_call() and peer.end_of(sid)["loud_seconds"] > 0.3
    leg = finished(acme, pk=leg.pk)
    assert (leg.direction, leg.status, leg.carrier_ref) == ("outbound", "completed", sid)
    assert leg.call is not None and leg.call.channel == "telephone" and leg.carrier_seconds
    with enter_tenant(acme.id):  # as if the callback had been lost
        longer_ago = leg.rang_at - datetime.timedelta(minutes=3)
        TelephoneLeg.objects.update(status="answered", ended_at=None, carrier_seconds=None, rang_at=longer_ago)
    sweeping.settle_leg(tenant_id=str(acme.id), leg_id=str(leg.pk))
    assert finished(acme, pk=leg.pk).status == "completed"
    with enter_tenant(acme.id):
        account = CarrierAccount.objects.get()
        state = CARRIERS[peer.carrier].api.fetch_call(account, sid)
        assert (state.status, state.seconds, state.price_dollars) == (
            "completed",
            leg.carrier_seconds,
            Decimal("0.0085"),
        )


Answers = list[tuple[int, dict[str, Any]]]
UNKNOWN: tuple[int, dict[str, Any]] = (404, {"errors": []})
NOTHING, PRICED = ((200, {"status": "completed", "price": price, "price_unit": "USD"}) for price in ("0", "0.0085"))


@contextlib.contextmanager
def api_that_answers(answers: Answers) -> Iterator[str]:
    """Be an API that gives each answer once and then the last one for ever, and return its address."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("answers", "seconds", "tries_left", "entered"),
    [
        ([UNKNOWN, NOTHING, PRICED], 61, 6, PRICE_NANO_DOLLARS),
        ([NOTHING], 61, 2, 0),
        ([UNKNOWN], 61, 2, 0),
        ([NOTHING, PRICED], 0, 6, 0),
    ],
    ids=["late", "nothing for ever", "never known", "nothing for no seconds"],
)
def test_a_price_that_is_not_settled_at_once_is_asked_for_again(
    acme: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    seconds: int,
    tries_left: int,
    entered: int,
) -> None:
    longer_ago = timezone.now() - datetime.timedelta(minutes=5)
    with enter_tenant(acme.id):
        CarrierAccount.objects.create(
            carrier="telnyx", account_ref=telnyx_stand_in.ACCOUNT, **telnyx_stand_in.CREDENTIALS
        )
        leg = TelephoneLeg.objects.create(
            carrier="telnyx", carrier_ref="c", our_number=NUMBER, ended_at=longer_ago, carrier_seconds=seconds
        )
    of = {"tenant_id": str(acme.id), "leg_id": str(leg.pk)}
    with api_that_answers(list(answers)) as url, structlog.testing.capture_logs() as logged:
        monkeypatch.setattr(settings, "TELNYX_URL", url)
        prices.enter_price.apply(kwargs=of, retries=prices.MOST_PRICE_TRIES - tries_left)
    entries = CostEntry.objects.filter(part="telephony")
    with enter_tenant(acme.id):
        assert sum(each.nano_dollars for each in entries) == entered
    is_given_up = any(each["event"] == "telephony.price_not_settled" for each in logged)
    assert is_given_up is (seconds > 0 and not entered)


@at_each_carrier
def test_machines_are_hung_up_on(peer: CarrierProcess, acme: Tenant, placed: Callable[..., TelephoneLeg]) -> None:
    leg = finished(acme, pk=placed(answered_by="machine_start").pk)
    assert leg.status == "completed" and leg.answered_by.startswith("machine") and leg.call_id is None


@at_each_carrier
@pytest.mark.parametrize(("said", "status"), [("busy", "busy"), ("no-answer", "no_answer"), ("canceled", "cancelled")])
def test_who_does_not_answer_is_written_down(
    acme: Tenant, placed: Callable[..., TelephoneLeg], said: str, status: str
) -> None:
    leg = finished(acme, pk=placed(status=said).pk)
    assert leg.status == status and leg.answered_at is None


@at_each_carrier
def test_what_the_carrier_refuses_is_told_in_its_words(acme: Tenant, placed: Callable[..., TelephoneLeg]) -> None:
    leg = finished(acme, pk=placed(to="+12125550000").pk)
    assert leg.status == "failed" and "Invalid 'to'" in leg.problem.replace("'To'", "'to'")
