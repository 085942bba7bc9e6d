"""The talk client in a real browser: a fake microphone on one side, a scripted agent on the other."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from gpu_workers.protocol import CloseCode
from tests.web.browsers import MICROPHONE_RATE_HZ, start_chromium, write_wav
from tests.web.talk_site import STATIC, Site, running_site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_site() as running:
        yield running


@pytest.fixture(autouse=True)
def open_lines(site: Site) -> None:
    site.refusal = None
    site.away_seconds = 0.0
    site.heard.clear()
    site.returns.clear()


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of quiet, then three of a voice-like tone, then quiet."""
    at = numpy.arange(3 * MICROPHONE_RATE_HZ) / MICROPHONE_RATE_HZ
    spoken = 0.25 * sum(numpy.sin(2 * numpy.pi * 180 * n * at) / n for n in (1, 2, 3, 5))
    quiet = numpy.zeros(2 * MICROPHONE_RATE_HZ)
    return write_wav(tmp_path_factory.mktemp("voice") / "caller.wav", numpy.concatenate([quiet, spoken, quiet]))


@pytest.fixture(scope="module")
def browser(playwright: Playwright, voice: Path) -> Iterator[Browser]:
    running = start_chromium(playwright, microphone_wav=voice)
    yield running
    running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None
        )
        yield page
        assert complaints == []


def call(page: Page, site: Site, agent: str) -> None:
    page.goto(f"{site.address}/?agent={agent}")
    page.get_by_role("button", name="Talk").click()


def status(page: Page, sentence: str | re.Pattern[str]) -> None:
    expect(page.get_by_role("status")).to_contain_text(sentence, timeout=20_000)


def wait_until(page: Page, expression: str) -> None:
    """Wait for JavaScript to be true. Playwright's own wait needs `eval`, which the page's policy refuses."""
    limit = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < limit, f"it never became true: {expression}"
        page.wait_for_timeout(50)


def test_a_caller_is_heard_and_hears_the_agent(page: Page, site: Site) -> None:
    call(page, site, "answer")
    captions = page.get_by_role("log")
    expect(captions).to_contain_text("I'd like a haircut.", timeout=20_000)
    expect(captions).to_contain_text("What day suits you?", timeout=20_000)
    expect(captions.locator(".said--interrupted")).to_have_count(1)
    expect(captions.locator(".said--agent .said__words")).to_have_text(
        ["Good morning, how can I help?", "What day suits you?"]
    )
    expect(captions).to_contain_text("check availability · 18 ms")
    expect(page.locator("[data-talk-readout=turn]")).to_have_text("1.04 s")
    heard = page.evaluate("window.warmlineCall.heard")
    # 1.6 s were spoken, in samples of the loudspeaker's rate; the codec and the swell may shave some off.
    assert heard["samples"] > 1.2 * page.evaluate("window.warmlineCall.context.sampleRate")
    assert 0.03 < heard["rms"] < 0.5
    assert heard["firstAudioAt"] > 0

    page.get_by_role("button", name="Hang up").click()
    status(page, "You ended the call.")
    expect(page.get_by_role("button", name="Call again")).to_be_visible()
    wait_until(page, "window.warmlineCall.context.state === 'closed'")
    loud = [part for part in numpy.array_split(site.heard[0], 200) if numpy.sqrt(numpy.mean(part**2)) > 0.05]
    assert len(loud) > 20, "the agent heard little of the caller"


def test_the_figures_of_the_call_are_shown(page: Page, site: Site) -> None:
    call(page, site, "answer")
    for name, text in [("first-audio", "412 ms"), ("turn", "1.04 s"), ("boot", "restored"), ("cost", "$0.004210")]:
        expect(page.locator(f"[data-talk-readout={name}]")).to_have_text(text, timeout=20_000)
    expect(page.locator("[data-talk-readout=clock]")).to_have_text(re.compile(r"0:[45]\d"))
    assert page.evaluate("window.warmlineCall.resumeToken") == "again"


def test_a_caller_sees_that_the_call_is_recorded(page: Page, site: Site) -> None:
    call(page, site, "recorded")
    status(page, "you may interrupt. This call is recorded.")
    page.get_by_role("button", name="Hang up").click()
    status(page, "You ended the call.")


def test_calling_again_begins_anew(page: Page, site: Site) -> None:
    call(page, site, "answer")
    expect(page.get_by_role("log")).to_contain_text("Good morning", timeout=20_000)
    page.get_by_role("button", name="Hang up").click()
    page.get_by_role("button", name="Call again").click()
    status(page, "You are on the line.")
    expect(page.get_by_role("log").locator("li")).to_have_count(1, timeout=20_000)
    assert site.tickets[-2:] == ["answer", "answer"]


def test_a_caller_may_choose_the_region_to_call_from(page: Page, site: Site) -> None:
    call(page, site, "4529")
    expect(page.get_by_role("button", name="Call again")).to_be_visible(timeout=20_000)
    page.get_by_label("Call as from").select_option("Europe, West")
    page.get_by_role("button", name="Call again").click()
    expect(page.get_by_role("button", name="Call again")).to_be_visible(timeout=20_000)
    assert site.queries[-2:] == ["resume=1", "region=eu-west&resume=1"]


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_a_refusal_is_told_in_a_sentence(page: Page, site: Site, code: CloseCode) -> None:
    call(page, site, str(int(code)))
    sentence = page.evaluate(
        "async (code) => (await import('/static/web/talk/protocol.js')).CLOSE_SENTENCES[code]", int(code)
    )
    status(page, sentence)
    expect(page.get_by_role("button", name="Call again")).to_be_visible()


def test_every_close_code_has_a_sentence() -> None:
    source = (STATIC / "web" / "talk" / "protocol.js").read_text()
    told = {int(code) for code in re.findall(r"^  (\d{4}): \"", source, re.MULTILINE)}
    assert told == {int(code) for code in CloseCode}


def test_an_error_message_comes_before_the_close_codes_own_words(page: Page, site: Site) -> None:
    call(page, site, "failing")
    status(page, "The engine met a fault of its own.")


def test_a_lost_connection_is_told(page: Page, site: Site) -> None:
    call(page, site, "lost")
    status(page, "The connection was lost.")


def test_a_caller_whose_connection_is_lost_is_brought_back_into_the_call(page: Page, site: Site) -> None:
    site.away_seconds = 1.0
    call(page, site, "cut")
    status(page, "The connection was lost. Getting you back")
    expect(page.locator("[data-talk]")).to_have_attribute("data-state", "reconnecting")
    expect(page.get_by_role("button", name="Hang up")).to_be_visible()
    # A refused attempt, a return that is lost again, and one that lasts: with a new stream that the agent can decode.
    expect(page.get_by_role("log")).to_contain_text("Good morning", timeout=20_000)
    status(page, "You are back in the call.")
    assert site.returns == ["first", "first", "second"]
    assert page.evaluate("window.warmlineCall.returns") == 2
    wait_until(page, "window.warmlineCall.heard.samples > 10_000")
    page.get_by_role("button", name="Hang up").click()
    wait_until(page, "window.warmlineCall.context.state === 'closed'")
    limit = time.monotonic() + 10
    while not site.heard:
        assert time.monotonic() < limit
        page.wait_for_timeout(50)
    assert site.heard[-1].size > 10_000


def test_a_fault_that_the_call_got_over_keeps_nobody_from_coming_back(page: Page, site: Site) -> None:
    call(page, site, "mended")
    expect(page.get_by_role("log")).to_contain_text("Good morning", timeout=20_000)
    status(page, "You are back in the call.")
    page.get_by_role("button", name="Hang up").click()


def test_a_call_that_has_ended_meanwhile_is_told(page: Page, site: Site) -> None:
    call(page, site, "gone")
    status(page, "The call had ended before it could be joined again.")
    expect(page.get_by_role("button", name="Call again")).to_be_visible()


def test_hanging_up_while_the_connection_is_lost_ends_the_call(page: Page, site: Site) -> None:
    site.away_seconds = 30.0
    call(page, site, "cut")
    status(page, "The connection was lost. Getting you back")
    page.get_by_role("button", name="Hang up").click()
    status(page, "You ended the call.")


def test_an_agent_that_is_lost_and_found_is_told(page: Page, site: Site) -> None:
    call(page, site, "agent_lost")
    status(page, "The agent was lost for a moment.")
    status(page, "You are on the line.")


def test_an_unreachable_gateway_is_told(page: Page, site: Site) -> None:
    call(page, site, "refused")
    status(page, "The voice gateway could not be reached.")


def test_unknown_and_malformed_messages_are_passed_over(page: Page, site: Site) -> None:
    call(page, site, "strange")
    expect(page.get_by_role("log")).to_contain_text("Still here.", timeout=20_000)
    status(page, "You are on the line.")
    page.get_by_role("button", name="Hang up").click()


def test_a_call_can_be_given_up_while_it_connects(page: Page, site: Site) -> None:
    call(page, site, "silent")
    status(page, "Connecting")
    page.get_by_role("button", name="Hang up").click()
    status(page, "You ended the call.")


@pytest.mark.parametrize(
    ("http_status", "sentence"),
    [(429, "That was the fifth call in an hour: try again later."), (503, "All demo lines are busy.")],
)
def test_a_refused_ticket_is_told_in_the_servers_words(page: Page, site: Site, http_status: int, sentence: str) -> None:
    site.refusal = (http_status, sentence)
    call(page, site, "answer")
    status(page, sentence)


def test_stale_frames_are_left_out(page: Page, site: Site) -> None:
    # A network that takes nothing: the socket's buffer stays full.
    page.add_init_script("Object.defineProperty(WebSocket.prototype, 'bufferedAmount', { get: () => 1e6 })")
    call(page, site, "answer")
    wait_until(page, "window.warmlineCall?.framesDropped > 10")
    assert page.evaluate("window.warmlineCall.framesSent") == 0


def test_a_refused_microphone_is_told(playwright: Playwright, site: Site, voice: Path) -> None:
    browser = start_chromium(playwright, microphone_wav=voice, refuse_microphone=True)
    page = browser.new_page()
    call(page, site, "answer")
    status(page, "The microphone was refused.")
    browser.close()


def test_a_missing_microphone_is_told(playwright: Playwright, site: Site) -> None:
    browser = start_chromium(playwright)
    page = browser.new_page()
    call(page, site, "answer")
    status(page, "No microphone was found.")
    browser.close()


def test_an_insecure_page_is_told(page: Page, site: Site) -> None:
    page.add_init_script("Object.defineProperty(window, 'isSecureContext', { value: false })")
    call(page, site, "answer")
    status(page, "Browsers open the microphone only for secure pages")
