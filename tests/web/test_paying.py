"""From a visitor to a paying tenant, in a browser: try, subscribe, use, exceed, be invoiced, fail to pay, pay."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import Page, Playwright, expect

from billing import tasks
from billing.models import Invoice, Plan, Subscription, Usage
from billing.overage import overage_cents
from billing.stripe_api import client
from billing.webhooks import LISTENED
from gpu_workers.protocol import CloseCode
from tenants.lookups import memberships_of
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.billing.conftest import offered, stripe_process, stripe_server  # noqa: F401  (fixtures)
from tests.billing.factories import FAILING_CARD, GOOD_CARD, use_seconds
from tests.stripe_server.client import KEY, WEBHOOK_SECRET, StripeServer
from tests.voice import factories
from tests.voice.callers import calling, ready
from tests.voice.conftest import GatewayProcess, calls_are_over, gateway, worker_port  # noqa: F401  (fixtures)
from tests.voice.processes import Process, running, wait_until
from tests.web.browsers import start_chromium
from tests.web.looks import complaints_of
from tests.web.web_process import WebProcess
from voice.models import Call
from voice.tickets import call_address, issue_ticket
from web.templatetags.warmline import cents

pytestmark = pytest.mark.browser

WORKER = [sys.executable, "-m", "celery", "--quiet", "--app", "config", "worker", "--pool", "solo"]
OWNER = "nora@newcomer.example"


@pytest.fixture
def web(
    stripe_server: StripeServer,  # noqa: F811
    gateway: GatewayProcess,  # noqa: F811
    tmp_path: Path,
) -> Iterator[WebProcess]:
    """The web process and a Celery worker, with the stand-in as their Stripe, which sends its events to them."""
    stripes = {
        "STRIPE_SECRET_KEY": KEY,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "STRIPE_API_URL": stripe_server.url,
        "STRIPE_PAGES": stripe_server.url,
    }
    worker = Process(
        WORKER,
        output=tmp_path / "celery.log",
        env={**stripes, "PYTHONWARNINGS": "ignore::UserWarning:celery.platforms"},
    )
    with running(worker):
        process = WebProcess(tmp_path, gateway_url=gateway.url, more=stripes)
        with running(process.process):
            client().v1.webhook_endpoints.create(
                {"url": f"{process.url}/stripe/events/", "enabled_events": list(LISTENED)}  # type: ignore[typeddict-item]
            )
            yield process
            stripe_server.control("deliveries")


@pytest.fixture
def page(playwright: Playwright, web: WebProcess) -> Iterator[Page]:
    browser = start_chromium(playwright)
    page = browser.new_page()
    complaints = complaints_of(page)
    yield page
    browser.close()
    assert complaints == []


def call(gateway: GatewayProcess, tenant: Tenant) -> int | None:  # noqa: F811
    """Call the tenant's agent; return None after an exchange with it, or the code of the refusal."""
    with enter_tenant(tenant.id):
        agent = factories.Agent.objects.first() or factories.create_agent()
        url = call_address(gateway.url, issue_ticket(agent))

    async def talk() -> int | None:
        async with calling(url) as caller:
            try:
                await ready(caller)
            except Exception:
                return caller.connection.close_code
            await caller.ask()
            return None

    # Playwright has this thread's event loop.
    with ThreadPoolExecutor(1) as thread:
        refusal = thread.submit(asyncio.run, talk()).result(timeout=60)
    wait_until(lambda: not unfinished_calls(tenant), within_seconds=20, what="the end of the call")
    return refusal


def unfinished_calls(tenant: Tenant) -> int:
    with enter_tenant(tenant.id):
        return Call.objects.live().count()


def give_card(page: Page, number: str, button: str) -> None:
    page.get_by_label("Card number").fill(number)
    page.get_by_role("button", name=button).click()


def test_a_visitor_becomes_a_tenant_that_pays(
    page: Page,
    web: WebProcess,
    gateway: GatewayProcess,  # noqa: F811
    stripe_server: StripeServer,  # noqa: F811
    worker_port: int,  # noqa: F811
) -> None:
    # 1. A visitor signs up, and is told when the trial ends.
    page.goto(f"{web.url}/pricing/")
    page.get_by_role("link", name="Start a trial").last.click()
    page.get_by_label("Email").fill(OWNER)
    page.get_by_label(re.compile("Password")).fill("a long and silly passphrase")
    page.get_by_label("Business name").fill("Newcomer")
    page.get_by_role("button", name="Create the account").click()
    banner = page.locator(".banner")
    expect(banner).to_contain_text("The trial ends on")
    tenant = Tenant(id=memberships_of(User.objects.get(email=OWNER).pk)[0].tenant_id)

    # 2. They try it.
    with enter_tenant(tenant.id):
        factories.create_deployment(port=worker_port)
    assert call(gateway, tenant) is None

    # 3. They subscribe, and come back to the plan; the events follow.
    banner.get_by_role("link", name="Choose a plan").click()
    page.get_by_role("button", name="Subscribe to Starter").click()
    give_card(page, GOOD_CARD, "Subscribe")
    expect(page.get_by_text("Thank you. You are on Starter.")).to_be_visible()
    expect(banner).to_have_count(0)
    stripe_server.control("deliveries")

    def standing() -> str:
        with enter_tenant(tenant.id):
            return Subscription.objects.get().status

    def invoices() -> list[tuple[str, int]]:
        with enter_tenant(tenant.id):
            return list(Invoice.objects.order_by("created_at").values_list("status", "total_cents"))

    wait_until(lambda: invoices() == [("paid", 14_900)], within_seconds=20, what="the invoice's event")

    # 4. They use it, and more than the plan includes; Stripe's meter is told.
    assert call(gateway, tenant) is None
    with enter_tenant(tenant.id):
        use_seconds(61_000)
        began = Subscription.objects.get().period_started_at
        used = Usage.objects.filter(occurred_at__gte=began).total("call_seconds")
        customer = Subscription.objects.get().stripe_customer_id
    tasks.report_overage.delay()
    wait_until(lambda: stripe_server.metered(customer) == used - 60_000, within_seconds=20, what="the meter")
    beyond_cents = overage_cents(used - 60_000, Plan.objects.get(slug="starter"))
    page.reload()
    tile = page.locator(".tile").filter(has_text="Beyond the plan")
    expect(tile.locator(".tile__value")).to_have_text(cents(beyond_cents))

    # 5. Their card stops working; a month later the invoice, with what went beyond, cannot be paid.
    page.get_by_role("button", name="Cards and address at Stripe").click()
    give_card(page, FAILING_CARD, "Keep card")
    page.get_by_role("link", name="Return").click()
    stripe_server.advance(days=32)
    stripe_server.control("deliveries")
    wait_until(lambda: standing() == "past_due", within_seconds=20, what="the failed payment's event")
    wait_until(lambda: ("open", 14_900 + beyond_cents) in invoices(), within_seconds=20, what="the unpaid invoice")
    page.reload()
    expect(banner).to_contain_text("An invoice is unpaid. Calls go on until")
    tasks.send_notices.delay()
    mails = Path(settings.STATE_DIR) / "mail"
    wait_until(
        lambda: any("A payment of Newcomer failed" in mail.read_text() for mail in mails.glob("*.log")),
        within_seconds=20,
        what="the mail",
    )
    assert call(gateway, tenant) is None

    # 6. The days of grace pass: calls are refused, and everything can still be read.
    with enter_tenant(tenant.id):
        Subscription.objects.update(grace_ends_at=timezone.now())
    assert call(gateway, tenant) == CloseCode.TENANT_SUSPENDED
    page.reload()
    expect(banner).to_contain_text("An invoice is unpaid: pay it to go on. New calls are refused.")

    # 7. They pay, and are back.
    page.get_by_role("link", name="Pay it now").click()
    give_card(page, GOOD_CARD, "Pay")
    expect(page.get_by_text("paid")).to_be_visible()
    stripe_server.control("deliveries")
    wait_until(lambda: standing() == "active", within_seconds=20, what="the payment's event")
    wait_until(lambda: {status for status, _ in invoices()} == {"paid"}, within_seconds=20, what="the paid invoice")
    assert call(gateway, tenant) is None
    page.goto(f"{web.url}/t/newcomer/billing/")
    expect(banner).to_have_count(0)
    expect(page.get_by_text("paid", exact=True)).to_have_count(2)
    expect(page.get_by_text("To be paid on")).to_be_visible()
