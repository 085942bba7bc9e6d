"""Pages of telephone numbers: added once carriers know them, led to agents by hours, and apart between tenants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from agents.models import Agent
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.voice.telephony.processes import NUMBER, OTHER_NUMBER, STAND_INS, CarrierProcess, Carriers
from tests.web import factories, telephone
from voice.telephony.carriers import CARRIERS
from voice.telephony.models import Carrier, CarrierAccount, DoNotCall, NumberHours, TelephoneNumber
from voice.telephony.numbers import BadTarget, read_target
from voice.telephony.routing import find_tenant_of

PAGE = "/t/acme/telephone/"
TWILIO = STAND_INS["twilio"].CREDENTIALS


@pytest.fixture(scope="module")
def carriers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carriers]:
    found = Carriers(tmp_path_factory.mktemp("carriers"))
    yield found
    found.stop()


@pytest.fixture
def carrier() -> str:
    return "twilio"


@pytest.fixture(autouse=True)
def peer(carriers: Carriers, carrier: str, monkeypatch: pytest.MonkeyPatch) -> CarrierProcess:
    process = carriers.get(carrier)
    monkeypatch.setattr(settings, *process.setting)
    return process


def add(client: Any, agent: Agent, **values: Any) -> str:
    form = {"number": NUMBER, "carrier": "twilio", "agent": agent.pk, "outside": "message", **values}
    return client.post(f"{PAGE}numbers/new/", form, follow=True).content.decode()


@pytest.mark.parametrize("carrier", list(STAND_INS))
def test_an_account_that_its_carrier_knows_is_saved_encrypted_and_not_shown(
    client_of: Any, acme: Tenant, alice: User, carrier: str
) -> None:
    client, name = client_of(alice), Carrier(carrier).label
    given, secrets = STAND_INS[carrier].CREDENTIALS, {"token"}
    if carrier == "signalwire":
        secrets.add("signing_key")  # Telnyx' is public
    page = client.get(f"{PAGE}accounts/{carrier}/").content.decode()
    assert all(each.label in page for each in CARRIERS[carrier].credentials)
    page = client.post(f"{PAGE}accounts/{carrier}/", given, follow=True).content.decode()
    assert f"{name} knows it" in page and given["token"][-4:] in page
    page += client.get(f"{PAGE}accounts/{carrier}/").content.decode()
    assert given.get("account_ref", "known with the first call") in page
    assert not any(given[field] in page for field in secrets)
    with enter_tenant(acme.id):
        account = CarrierAccount.objects.get()
        assert {field: getattr(account, field) for field in given} == given
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT row_to_json(voice_carrieraccount)::text FROM voice_carrieraccount")
        row = str(cursor.fetchall())
        assert not any(given[field] in row or given[field].encode().hex() in row for field in secrets)
    client.post(f"{PAGE}accounts/{carrier}/remove/")
    with enter_tenant(acme.id):
        assert not CarrierAccount.objects.exists()
        trail = AuditEntry.objects.filter(action__startswith="carrier").order_by("occurred_at")
        assert [(each.action, each.details) for each in trail] == [
            ("carrier.saved", {"carrier": carrier, "checked": True}),
            ("carrier.removed", {"carrier": carrier}),
        ]


@pytest.mark.parametrize(
    ("carrier", "values", "sentence"),
    [
        ("twilio", {"token": "w" * 32}, "Twilio does not know this account"),
        ("twilio", {"account_ref": "SK" + "a" * 32}, "An account SID is AC"),
        ("twilio", {"token": "a token"}, "one word"),
        ("signalwire", {"token": "w" * 32}, "SignalWire does not know this account"),
        ("signalwire", {"space": "example.com/"}, "of acme.signalwire.com"),
        ("signalwire", {"account_ref": "1"}, "A project ID"),
        ("signalwire", {"signing_key": ""}, "This field is required"),
        ("telnyx", {"token": "KEY" + "w" * 32}, "Telnyx does not know this account"),
        ("telnyx", {"signing_key": "short"}, "A public key is 44 characters"),
        ("plivo", {"token": "w" * 40}, "Plivo does not know this account"),
        ("plivo", {"account_ref": "../Account"}, "An auth ID"),
    ],
)
def test_an_account_that_is_none_is_refused(
    carrier: str, values: dict[str, str], sentence: str, client_of: Any, acme: Tenant, alice: User
) -> None:
    given = {**STAND_INS[carrier].CREDENTIALS, **values}
    answer = client_of(alice).post(f"{PAGE}accounts/{carrier}/", given)
    assert answer.status_code == 422 and sentence in answer.content.decode()
    with enter_tenant(acme.id):
        assert not CarrierAccount.objects.exists()


@pytest.mark.parametrize("carrier", list(STAND_INS))
def test_an_account_is_saved_while_its_carrier_is_away(
    client_of: Any, acme: Tenant, alice: User, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, f"{carrier.upper()}_URL", "http://127.0.0.1:9")
    given = STAND_INS[carrier].CREDENTIALS
    page = client_of(alice).post(f"{PAGE}accounts/{carrier}/", given, follow=True).content.decode()
    assert "could not be asked" in page


def test_a_business_may_have_an_account_with_each_carrier(
    client_of: Any, carriers: Carriers, acme: Tenant, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(alice)
    for carrier in STAND_INS:
        monkeypatch.setattr(settings, *carriers.get(carrier).setting)
        client.post(f"{PAGE}accounts/{carrier}/", STAND_INS[carrier].CREDENTIALS)
    page = client.get(PAGE).content.decode()
    assert page.count("token …") == len(STAND_INS) and ">no account<" not in page
    client.post(f"{PAGE}accounts/plivo/remove/")
    assert client.get(PAGE).content.decode().count("token …") == len(STAND_INS) - 1


def test_a_number_is_taken_into_service_changed_and_given_up(
    client_of: Any, peer: CarrierProcess, acme: Tenant, alice: User, agent: Agent
) -> None:
    client = client_of(alice)
    client.post(f"{PAGE}accounts/twilio/", TWILIO)
    page = add(client, agent, number="(415) 555-0100", day_0="9:00-12:30, 14:00-18:00", label="On the van")
    assert f"{NUMBER} is in service" in page and "On the van" in page
    with enter_tenant(acme.id):
        number = TelephoneNumber.objects.get()
        assert number.carrier_ref in STAND_INS["twilio"].NUMBERS and number.hours.count() == 2
    assert peer.voice_url_of(NUMBER).endswith("/telephone/twilio/voice/")
    assert find_tenant_of(NUMBER) == acme.id

    page = client.get(f"{PAGE}numbers/{number.pk}/").content.decode()
    assert "09:00-12:30, 14:00-18:00" in page
    form = {"agent": agent.pk, "outside": "agent", "outside_agent": agent.pk, "forwards_to": "415 555 0199"}
    client.post(f"{PAGE}numbers/{number.pk}/", form)
    with enter_tenant(acme.id):
        number.refresh_from_db()
        assert (number.outside, number.outside_agent_id, number.forwards_to) == ("agent", agent.pk, "+14155550199")
        assert not NumberHours.objects.exists()

    client.post(f"{PAGE}numbers/{number.pk}/remove/")
    assert find_tenant_of(NUMBER) is None and peer.voice_url_of(NUMBER) == ""
    with enter_tenant(acme.id):
        trail = AuditEntry.objects.filter(action__startswith="number").order_by("occurred_at")
        assert [each.action for each in trail] == ["number.added", "number.changed", "number.removed"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"number": "+14155550999"}, "is not one of the Twilio account"),
        ({"number": "nine"}, "no telephone number"),
        ({"day_2": "nine to five"}, "is not understood"),
        ({"day_2": "17:00-09:00"}, "ends before it begins"),
        ({"outside": "agent"}, "Choose the agent who answers"),
        ({"forwards_to": "Dora"}, "Dora is neither a telephone number"),
        ({"forwards_to": "sip:dora@pbx.example>"}, "A SIP address is like"),
        ({"forwards_to": "sip:dora@pbx.example?Replaces=x"}, "A SIP address is like"),
        ({"forwards_to": "sip:dora pbx.example"}, "A SIP address is like"),
    ],
)
def test_a_number_that_cannot_be_is_refused_in_words(
    values: dict[str, str], sentence: str, client_of: Any, acme: Tenant, alice: User, agent: Agent
) -> None:
    client = client_of(alice)
    client.post(f"{PAGE}accounts/twilio/", TWILIO)
    assert sentence in add(client, agent, **values)
    with enter_tenant(acme.id):
        assert not TelephoneNumber.objects.exists()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("(415) 555-0199", "+14155550199"),
        (" SIP:dora.miller@pbx-1.example:5080;transport=tls ", "sip:dora.miller@pbx-1.example:5080;transport=tls"),
        ("sips:12@192.0.2.1", "sips:12@192.0.2.1"),
        ("", ""),
    ],
)
def test_a_person_who_takes_over_has_a_number_or_a_sip_address(
    typed: str, kept: str, client_of: Any, acme: Tenant, alice: User, agent: Agent
) -> None:
    assert "waits for the operator" in add(client_of(alice), agent, carrier="sip", forwards_to=typed)
    with enter_tenant(acme.id):
        assert TelephoneNumber.objects.get().forwards_to == kept


def test_no_line_of_a_message_fits_into_the_address_of_a_person() -> None:
    for typed in ("sip:a@b\r\nVia: x", "sip:a@b>;x=<", 'sip:a@b"', "sip:a@b;x=y\nz", "sip:@b", "sip:a@", "sip:a@b:0"):
        with pytest.raises(BadTarget):
            read_target(typed)


def test_without_an_account_a_number_of_twilios_cannot_be_added(
    client_of: Any, acme: Tenant, alice: User, agent: Agent
) -> None:
    assert "Save the Twilio account first" in add(client_of(alice), agent)


def test_a_number_belongs_to_one_tenant_where_nobody_confirms_them(
    client_of: Any,
    acme: Tenant,
    rival: Tenant,
    alice: User,
    charlie: User,
    agent: Agent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "SIP_NUMBERS_NEED_CONFIRMATION", False)
    assert "is in service" in add(client_of(alice), agent, number=OTHER_NUMBER, carrier="sip")
    with enter_tenant(rival.id):
        theirs = factories.create_agent()
    form = {"number": OTHER_NUMBER, "carrier": "sip", "agent": theirs.pk, "outside": "message"}
    page = client_of(charlie).post("/t/rival/telephone/numbers/new/", form).content.decode()
    assert "is in service already" in page
    assert find_tenant_of(OTHER_NUMBER) == acme.id
    assert OTHER_NUMBER not in client_of(charlie).get("/t/rival/telephone/").content.decode()
    # Nor may a number lead to another tenant's agent.
    page = client_of(charlie).post("/t/rival/telephone/numbers/new/", {**form, "agent": agent.pk}).content.decode()
    assert "valid choice" in page


def test_a_viewer_sees_the_numbers_and_may_change_nothing(
    client_of: Any, acme: Tenant, bob: User, agent: Agent
) -> None:
    with enter_tenant(acme.id):
        telephone.fill(agent, factories.create_call(agent))
    page = client_of(bob).get(PAGE).content.decode()
    assert "+14155550100" in page and "Add a number" not in page and "Check and save" not in page
    page = client_of(bob).get(f"{PAGE}calling-out/").content.decode()
    assert "+12125550181" in page and "Never call" not in page and "Save the hours" not in page


def test_the_rules_are_agreed_to_and_a_number_is_never_called(
    client_of: Any, acme: Tenant, alice: User, agent: Agent
) -> None:
    client = client_of(alice)
    form = {"calls_from": "00:00", "calls_until": "23:59", "weekdays": list(range(7))}
    assert client.post(f"{PAGE}calling-out/agree/", form).status_code == 422  # without the word itself
    page = client.post(f"{PAGE}calling-out/agree/", {**form, "agrees": "on"}, follow=True).content.decode()
    assert "The rules are agreed to" in page and alice.email in page
    client.post(f"{PAGE}do-not-call/", {"number": "212 555 0177", "reason": "Asked for it."})
    with enter_tenant(acme.id):
        number = TelephoneNumber.objects.create(number=NUMBER, standing="confirmed", carrier="twilio", agent=agent)
    place = {"agent": agent.pk, "to": "+1 212 555 0177", "number": number.pk}
    assert "not to be called" in client.post(f"{PAGE}calling-out/call/", place).content.decode()
    with enter_tenant(acme.id):
        entry = DoNotCall.objects.get()
    client.post(f"{PAGE}do-not-call/{entry.pk}/remove/")
    assert (
        "there is no Twilio account" in client.post(f"{PAGE}calling-out/call/", place).content.decode()
    )  # there is no account


def test_the_page_of_a_call_shows_its_legs(client_of: Any, acme: Tenant, bob: User, agent: Agent) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(agent)
        telephone.fill(agent, call)
    page = client_of(bob).get(f"/t/acme/calls/{call.pk}/").content.decode()
    for words in (
        "+12125550177",
        "2,412 packets, 3 lost, 1 late",
        "Rang for",
        "Put through to",
        "PCMU",
        "4 frames",
        "7 packets lost",
    ):
        assert words in page, words
