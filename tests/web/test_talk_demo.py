"""The home page's demo through the real web process and gateway, with a scripted worker at the end of the line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from playwright.sync_api import Page, Playwright, expect

from agents.models import Agent
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.conftest import GatewayProcess, calls_are_over, gateway, worker_port  # noqa: F401  (fixtures)
from tests.voice.processes import running, wait_until
from tests.web.browsers import MICROPHONE_RATE_HZ, start_chromium, write_wav
from tests.web.web_process import WebProcess
from voice.models import Call

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def web(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:  # noqa: F811
    process = WebProcess(tmp_path_factory.mktemp("web"), gateway_url=gateway.url)
    with running(process.process):
        yield process


@pytest.fixture
def demo_agent(house: Tenant, worker_port: int) -> Agent:  # noqa: F811
    """An agent of the demo, whose worker sends back what it hears."""
    with enter_tenant(house.pk):
        factories.create_deployment(port=worker_port)
        return factories.create_agent(prompt="mode: echo")


@pytest.fixture
def page(playwright: Playwright, tmp_path: Path) -> Iterator[Page]:
    at = numpy.arange(20 * MICROPHONE_RATE_HZ) / MICROPHONE_RATE_HZ
    voice = 0.25 * sum(numpy.sin(2 * numpy.pi * 180 * n * at) / n for n in (1, 2, 3, 5))
    browser = start_chromium(playwright, microphone_wav=write_wav(tmp_path / "voice.wav", voice))
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    browser.close()
    assert complaints == []


def test_a_visitor_talks_and_hears(page: Page, web: WebProcess, house: Tenant, demo_agent: Agent) -> None:
    page.goto(web.url)
    page.get_by_role("button", name="Talk").click()
    expect(page.get_by_role("status")).to_contain_text("You are on the line.", timeout=20_000)
    wait_until(
        lambda: page.evaluate("window.warmlineCall.heard.samples > window.warmlineCall.context.sampleRate"),
        within_seconds=20,
        what="a second of what is not silence",
    )
    expect(page.locator("[data-talk-readout=clock]")).to_have_text(re.compile(r"0:[345]\d"))
    expect(page.locator("[data-talk-readout=boot]")).to_have_text(re.compile("warm|restored|cold"))
    page.get_by_role("button", name="Hang up").click()

    def ended_call() -> Call | None:
        with enter_tenant(house.pk):
            return Call.objects.ended().first()

    wait_until(ended_call, within_seconds=10, what="the end of the call's record")
    call = ended_call()
    assert call is not None
    assert (call.channel, call.agent_id) == (Call.Channel.DEMO, demo_agent.pk)
    assert call.end_reason == "caller_hung_up"
    assert call.audio_in_messages > 50
    assert call.ready_ms > 0


def test_a_worker_that_cannot_be_reached_is_told(page: Page, web: WebProcess, house: Tenant) -> None:
    with enter_tenant(house.pk):
        factories.create_deployment(port=9)  # nobody listens there
        factories.create_agent()
    page.goto(web.url)
    page.get_by_role("button", name="Talk").click()
    expect(page.get_by_role("status")).to_contain_text("No agent could be reached.", timeout=20_000)
