"""A visitor's call with every real part, microphone to dashboard: Chromium, web, gateway, supervisor, CPU worker."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr
from django.contrib.auth.hashers import Argon2PasswordHasher
from playwright.sync_api import Browser, Page, expect

from agents.catalog import templates_by_slug
from agents.versions import create_agent_from_template, publish
from content.models import TranscriptLine
from tenants.models import Role, Tenant, User
from tenants.scope import enter_tenant
from tests import factories
from tests.gpu_workers.speech import speak
from tests.voice.conftest import GatewayProcess, own_gateway  # noqa: F401  (a fixture)
from tests.voice.processes import running, wait_until
from tests.voice.supervised import supervisor_with_a_pool
from tests.web.browsers import MICROPHONE_RATE_HZ, running_playwright, start_chromium, write_wav
from tests.web.web_process import WebProcess
from voice.models import Call

pytestmark = pytest.mark.browser

GREETING_SECONDS = 6.0
"""The visitor listens to the greeting before they speak."""


@pytest.fixture
def front_desk(house: Tenant, alice: User) -> Tenant:
    """The operator's own tenant with a salon's receptionist; alice owns it, and can sign in at the real web process."""
    hasher = Argon2PasswordHasher()
    alice.password = hasher.encode(factories.PASSWORD, hasher.salt())
    alice.save()
    factories.add_member(tenant=house, user=alice, role=Role.OWNER)
    with enter_tenant(house.id):
        agent = create_agent_from_template(template=templates_by_slug()["salon-front-desk"], actor=None)
        publish(agent=agent, actor=None)
    return house


@pytest.fixture
def web(
    front_desk: Tenant,
    own_gateway: Callable[..., GatewayProcess],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[WebProcess]:
    """Every process of an installation; the pages' own is returned."""
    with supervisor_with_a_pool(front_desk, tmp_path, monkeypatch) as reached:
        gateway = own_gateway(**reached, GATEWAY_HANDSHAKE_SECONDS="20")
        process = WebProcess(tmp_path, gateway_url=gateway.url)
        with running(process.process):
            yield process


@pytest.fixture
def browser(web: WebProcess, tmp_path: Path) -> Iterator[Browser]:
    """A Chromium whose microphone asks for the opening hours, once the greeting is over.

    Playwright keeps an event loop in this thread: what stands behind `web` was deployed before.
    """
    words = soxr.resample(speak("What are your opening hours?"), 24_000, MICROPHONE_RATE_HZ)
    quiet = np.zeros(round(GREETING_SECONDS * MICROPHONE_RATE_HZ))
    microphone = write_wav(tmp_path / "visitor.wav", np.concatenate([quiet, words, np.zeros(30 * MICROPHONE_RATE_HZ)]))
    with running_playwright() as playwright:
        chromium = start_chromium(playwright, microphone_wav=microphone)
        yield chromium
        chromium.close()


def test_a_visitor_asks_is_understood_hears_an_answer_and_the_owner_sees_the_call(
    browser: Browser, web: WebProcess, front_desk: Tenant, alice: User
) -> None:
    page = browser.new_page()
    page.goto(web.url)
    page.get_by_role("button", name="Talk").click()
    expect(page.get_by_text(re.compile("opening hours", re.IGNORECASE)).last).to_be_visible(timeout=45_000)
    expect(page.get_by_text(re.compile("nine to six")).last).to_be_visible(timeout=30_000)
    assert page.evaluate("window.warmlineCall.heard.samples / window.warmlineCall.context.sampleRate") > 2.0
    page.get_by_role("button", name="Hang up").click()

    call = ended_call(front_desk)
    with enter_tenant(front_desk.id):
        heard = [line.text.lower() for line in TranscriptLine.objects.of_call(call.id) if line.role == "caller"]
    assert any("opening hours" in line for line in heard)
    assert call.channel == Call.Channel.DEMO
    assert call.cost_nano_dollars > 0
    owner_sees_the_call(browser.new_page(), web, front_desk, alice, call)


def ended_call(tenant: Tenant) -> Call:
    found: list[Call] = []

    def is_written() -> bool:
        with enter_tenant(tenant.id):
            found[:] = Call.objects.ended()[:1]
        return bool(found)

    wait_until(is_written, within_seconds=10, what="the call's record")
    return found[0]


def owner_sees_the_call(page: Page, web: WebProcess, tenant: Tenant, owner: User, call: Call) -> None:
    page.goto(f"{web.url}/accounts/login/")
    page.fill("input[name=login]", owner.email)
    page.fill("input[name=password]", factories.PASSWORD)
    page.get_by_role("button", name=re.compile("Sign in")).last.click()
    expect(page).not_to_have_url(re.compile("login"))
    page.goto(f"{web.url}/t/{tenant.slug}/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto(f"{web.url}/t/{tenant.slug}/calls/")
    page.locator(f"a[href$='/calls/{call.id}/']").first.click()
    expect(page.get_by_text("From request to first audio")).to_be_visible()
    expect(page.get_by_text(re.compile("opening hours", re.IGNORECASE)).first).to_be_visible()
    expect(page.locator(".waterfall").first).to_be_visible()
    expect(page.get_by_text(re.compile(r"nano-dollars")).first).to_be_visible()
