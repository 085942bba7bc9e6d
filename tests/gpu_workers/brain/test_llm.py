"""A language model leads the conversation, over a real connection; the policy answers where it does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.llm import LanguageModelBrain
from gpu_workers.cascade.brain.model_settings import BadSetting, ModelSettings
from gpu_workers.cascade.brain.model_tools import MAX_ROUNDS
from gpu_workers.cascade.brain.speech import Part, Say, ToolCalled, Warned
from gpu_workers.cascade.brain.tool_client import ToolReply
from gpu_workers.cascade.brain.wording import LOST_THREAD
from gpu_workers.protocol import Start, ToolRun, Utterance
from tests.gpu_workers.brain.conversations import (
    MONDAY,
    ToolServer,
    collect,
    hung_up,
    policy,
    refusal,
    said,
    talk,
    tools_called,
)
from tests.gpu_workers.brain.servers import ChatServer, Reply, serving

BOOKED = json.dumps(
    {"service": "haircut", "starts_at": "2026-03-05T15:00", "name": "Anna Smith", "phone": "4155550123"}
)
BOOKING = ("I'd like to book a haircut for Thursday at three.", "Anna Smith.", "415 555 0123")
Make = Callable[..., LanguageModelBrain]


@pytest.fixture
def chat() -> ChatServer:
    return ChatServer()


@pytest.fixture
async def make(chat: ChatServer, model: IntentModel, salon: dict[str, Any], tools: ToolServer) -> AsyncIterator[Make]:
    """Return a function that makes brains talking to the scripted model."""
    async with serving("/v1/chat/completions", chat.answer) as address, contextlib.AsyncExitStack() as stack:

        def make_brain(
            *, timeout_seconds: float = 5.0, history: tuple[Utterance, ...] = (), base_url: str = f"{address}/v1"
        ) -> LanguageModelBrain:
            start = Start("a call", agent=salon, business={"name": "Acme"}, history=history)
            settings = ModelSettings(base_url, "scripted", "the key", timeout_seconds)
            fallback = policy(model, salon, tools, history=history)
            brain = LanguageModelBrain(start, tools, settings, fallback, lambda: MONDAY)
            stack.push_async_callback(brain.close)
            return brain

        yield make_brain


@pytest.fixture
def llm_brain(make: Make) -> LanguageModelBrain:
    return make()


def warnings_in(parts: list[Part]) -> list[str]:
    return [part.code for part in parts if isinstance(part, Warned)]


# --- speaking --------------------------------------------------------------------------------------------------------
async def test_a_streamed_answer_is_spoken_sentence_by_sentence_as_it_is_heard(
    llm_brain: LanguageModelBrain, chat: ChatServer
) -> None:
    chat.says(Reply("We are open at 9:30. A **cut** costs $45. Shall I book one?"))
    parts = await collect(llm_brain.reply("How much is a haircut?"), llm_brain)
    assert parts == [
        Say("We are open at nine thirty."),
        Say("A cut costs forty five dollars."),
        Say("Shall I book one?"),
    ]


async def test_the_first_sentence_does_not_wait_for_the_second(make: Make, chat: ChatServer) -> None:
    chat.says(Reply("One moment please. I am looking.", stalls_after=3))
    parts = make().reply("Hello")
    async with asyncio.timeout(3):
        assert await anext(parts) == Say("One moment please.")
    await parts.aclose()
    async with asyncio.timeout(3):
        await chat.hung_up_on.wait()


async def test_the_model_is_told_who_it_is_what_it_knows_and_what_it_can_do(
    llm_brain: LanguageModelBrain, chat: ChatServer, salon: dict[str, Any]
) -> None:
    chat.says(Reply("Hello."))
    await talk(llm_brain, "Hi")
    request, system = chat.requests[0], chat.requests[0]["messages"][0]["content"]
    assert request["model"] == "scripted" and request["stream"] is True and chat.keys == ["Bearer the key"]
    assert "hair salon" in system and "forty five dollars" in system and "Monday, 02 March 2026, 09:00" in system
    offered = [tool["function"]["name"] for tool in request["tools"]]
    assert offered == [*(tool["name"] for tool in salon["tools"]), "end_call"]


async def test_it_greets_and_wraps_up_without_waiting_for_a_model(
    llm_brain: LanguageModelBrain, chat: ChatServer
) -> None:
    assert "Acme" in said(await collect(llm_brain.greet(), llm_brain))
    assert hung_up(await collect(llm_brain.wrap_up(), llm_brain))
    assert not chat.requests


async def test_the_model_hears_of_its_own_words_what_was_spoken(
    llm_brain: LanguageModelBrain, chat: ChatServer
) -> None:
    chat.says(Reply("We have many things. Colour is ninety five dollars."))
    async for _ in llm_brain.reply("What do you do?"):
        pass
    llm_brain.was_spoken("We have many", interrupted=True)
    await talk(llm_brain, "Just a cut, please.")
    assert chat.messages == [
        {"role": "user", "content": "What do you do?"},
        {"role": "assistant", "content": "We have many …"},
        {"role": "user", "content": "Just a cut, please."},
    ]


async def test_a_caller_who_speaks_twice_before_an_answer_is_one_message(
    llm_brain: LanguageModelBrain, chat: ChatServer
) -> None:
    chat.says(Reply("Yes?"))
    parts = llm_brain.reply("I'd like")
    await anext(parts)
    await parts.aclose()
    llm_brain.was_spoken("", interrupted=True)
    await talk(llm_brain, "a haircut")
    assert chat.messages == [{"role": "user", "content": "I'd like\na haircut"}]


async def test_a_call_that_comes_back_goes_on_with_what_was_said(make: Make, chat: ChatServer) -> None:
    chat.says(Reply("Friday, then."))
    brain = make(history=(Utterance("caller", "A haircut on Thursday."), Utterance("agent", "Thursday is full.")))
    assert "lost you" in said(await collect(brain.greet(), brain))
    await talk(brain, "Friday?")
    roles = [message["role"] for message in chat.messages]
    assert roles == ["user", "assistant", "user"] and "Thursday is full." in chat.messages[1]["content"]


async def test_one_that_takes_over_knows_what_was_said_and_done(make: Make, chat: ChatServer) -> None:
    chat.says(Reply("It is on Thursday."))
    brain = make()
    said_before = [Utterance("agent", "Hello."), Utterance("caller", "A haircut."), Utterance("agent", "It is booked.")]
    brain.catch_up(said_before, [ToolRun("book_appointment", True)])
    await talk(brain, "When is it?")
    assert [message["content"] for message in chat.messages] == ["Hello.", "A haircut.", "It is booked.", "When is it?"]
    assert "book_appointment (it worked)" in chat.requests[0]["messages"][0]["content"]


# --- tools -----------------------------------------------------------------------------------------------------------
async def test_a_tool_is_run_and_its_answer_goes_back(
    llm_brain: LanguageModelBrain, chat: ChatServer, tools: ToolServer
) -> None:
    chat.says(Reply("One moment.", calls=(("book_appointment", BOOKED),)), Reply("You are booked."))
    parts = await collect(llm_brain.reply("Yes, book it."), llm_brain)
    assert parts == [Say("One moment."), ToolCalled("book_appointment", True, 1.0), Say("You are booked.")]
    assert tools.calls == [("book_appointment", json.loads(BOOKED))]
    asked, answered = chat.messages[1:]
    assert asked["tool_calls"][0]["function"] == {"name": "book_appointment", "arguments": BOOKED}
    assert answered["role"] == "tool" and answered["tool_call_id"] == asked["tool_calls"][0]["id"]
    assert json.loads(answered["content"])["starts_at"] == "2026-03-05T15:00"


async def test_what_tools_answered_is_remembered_in_the_turns_to_come(
    llm_brain: LanguageModelBrain, chat: ChatServer
) -> None:
    chat.says(Reply(calls=(("book_appointment", BOOKED),)), Reply("You are booked."))
    await talk(llm_brain, "Yes, book it.", "When was that again?")
    assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "assistant", "user"]


async def test_a_refusal_goes_back_with_its_sentence_and_its_alternatives(
    llm_brain: LanguageModelBrain, chat: ChatServer, tools: ToolServer
) -> None:
    tools.replies = [refusal("That time is taken.", alternatives=("2026-03-05T16:00",))]
    chat.says(Reply(calls=(("book_appointment", BOOKED),)), Reply("Would four suit you?"))
    parts = await collect(llm_brain.reply("Yes, book it."), llm_brain)
    assert ToolCalled("book_appointment", False, 1.0) in parts
    assert json.loads(chat.messages[-1]["content"]) == {
        "error": "That time is taken.",
        "alternatives": ["2026-03-05T16:00"],
    }


async def test_several_calls_at_once_are_all_run(
    llm_brain: LanguageModelBrain, chat: ChatServer, tools: ToolServer
) -> None:
    look_up = json.dumps({"service": "haircut"})
    chat.says(Reply(calls=(("check_availability", look_up), ("book_appointment", BOOKED))), Reply("Done."))
    assert await talk(llm_brain, "Yes.") == "Done."
    assert tools.names == ["check_availability", "book_appointment"]


@pytest.mark.parametrize("arguments", ["{not json", '["a list"]', '"text"'])
async def test_arguments_that_are_no_json_object_run_no_tool_and_the_model_is_told(
    llm_brain: LanguageModelBrain, chat: ChatServer, tools: ToolServer, arguments: str
) -> None:
    chat.says(Reply(calls=(("cancel_appointment", arguments),)), Reply("Which number, please?"))
    assert await talk(llm_brain, "Cancel my appointment.") == "Which number, please?"
    assert not tools.calls
    assert "not a JSON object" in chat.messages[-1]["content"]
    assert chat.messages[-2]["tool_calls"][0]["function"]["arguments"] == "{}"


async def test_a_tool_that_the_agent_does_not_have_is_not_run(
    llm_brain: LanguageModelBrain, chat: ChatServer, tools: ToolServer
) -> None:
    chat.says(Reply(calls=(("wire_money", "{}"),)), Reply("I can't do that."))
    assert await talk(llm_brain, "Send me money.") == "I can't do that."
    assert not tools.calls and "There is no tool 'wire_money'" in chat.messages[-1]["content"]


async def test_a_model_that_calls_tools_without_end_must_speak(
    llm_brain: LanguageModelBrain, chat: ChatServer, tools: ToolServer
) -> None:
    looks = Reply(calls=(("check_availability", json.dumps({"service": "haircut"})),))
    chat.says(*[looks] * MAX_ROUNDS, Reply("I found nothing."))
    assert await talk(llm_brain, "When are you free?") == "I found nothing."
    assert [request["tool_choice"] for request in chat.requests] == ["auto"] * MAX_ROUNDS + ["none"]
    chat.says(looks)
    assert await talk(llm_brain, "And now?") == LOST_THREAD
    assert len(tools.calls) == 2 * MAX_ROUNDS


async def test_it_hangs_up_after_goodbye(llm_brain: LanguageModelBrain, chat: ChatServer) -> None:
    chat.says(Reply("Goodbye, Anna.", calls=(("end_call", "{}"),)))
    parts = await collect(llm_brain.reply("Bye."), llm_brain)
    assert said(parts) == "Goodbye, Anna." and hung_up(parts) and len(chat.requests) == 1


async def test_it_never_hangs_up_without_a_word(llm_brain: LanguageModelBrain, chat: ChatServer) -> None:
    chat.says(Reply(calls=(("end_call", ""),)))
    parts = await collect(llm_brain.reply("Bye."), llm_brain)
    assert said(parts) == "Thank you for calling Acme. Have a lovely day. Goodbye." and hung_up(parts)


async def test_a_booking_during_which_the_caller_speaks_is_made_once_and_the_model_knows(
    llm_brain: LanguageModelBrain, chat: ChatServer, tools: ToolServer
) -> None:
    tools.gate = asyncio.Event()
    chat.says(Reply(calls=(("book_appointment", BOOKED),)), Reply("You are booked."))
    turn = asyncio.create_task(collect(llm_brain.reply("Yes, book it."), llm_brain))
    async with asyncio.timeout(5):
        while not tools.calls:
            await asyncio.sleep(0.01)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    llm_brain.was_spoken("", interrupted=True)
    tools.gate.set()
    parts = await collect(llm_brain.reply("Is it done?"), llm_brain)
    assert tools_called(parts) == ["book_appointment"] and tools.finished == 1
    assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "user"]


# --- a model that does not answer ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply("Too late.", delay_seconds=30), id="late"),
        pytest.param(Reply("Silence.", stalls_after=1), id="says only that it is there"),
        pytest.param(Reply(status=500), id="fails"),
        pytest.param(Reply(status=429), id="is busy"),
        pytest.param(Reply(status=401), id="refuses the key"),
        pytest.param(Reply("Half a", breaks_after=1), id="breaks off before a word"),
        pytest.param(Reply("Half a sentence without end", breaks_after=2), id="breaks off in the first sentence"),
        pytest.param(Reply("Half a sentence without end", garbage_after=2), id="sends garbage"),
        pytest.param(Reply(""), id="says nothing"),
    ],
)
async def test_the_policy_answers_the_turn(make: Make, chat: ChatServer, reply: Reply) -> None:
    brain = make(timeout_seconds=0.3)
    chat.says(reply)
    began = time.monotonic()
    parts = await collect(brain.reply("How much is a haircut?"), brain)
    assert warnings_in(parts) == ["language_model"] and "forty five dollars" in said(parts)
    assert time.monotonic() - began < 3


async def test_the_policy_answers_where_nobody_listens(make: Make) -> None:
    brain = make(base_url="http://127.0.0.1:1/v1")
    parts = await collect(brain.reply("How much is a haircut?"), brain)
    assert warnings_in(parts) == ["language_model"] and "forty five dollars" in said(parts)


async def test_a_warning_holds_nothing_of_what_was_said(make: Make, chat: ChatServer) -> None:
    chat.says(Reply(status=500))
    brain = make()
    (warning,) = [part async for part in brain.reply("My secret is blue.") if isinstance(part, Warned)]
    assert warning.sentence == "The language model did not answer: InternalServerError."


async def test_what_was_begun_is_not_answered_twice(make: Make, chat: ChatServer) -> None:
    chat.says(Reply("A haircut is nice. It costs some dollars indeed", breaks_after=5))
    brain = make()
    parts = await collect(brain.reply("How much is a haircut?"), brain)
    assert said(parts) == "A haircut is nice." and warnings_in(parts) == ["language_model"]


async def test_a_model_that_fails_after_a_booking_does_not_leave_silence_nor_book_twice(
    make: Make, chat: ChatServer, tools: ToolServer
) -> None:
    brain = make()
    chat.says(Reply(calls=(("book_appointment", BOOKED),)), Reply(status=500))
    parts = await collect(brain.reply("Yes, book it."), brain)
    assert said(parts) == LOST_THREAD and tools.names == ["book_appointment"]
    chat.says(Reply("You are booked."))
    await talk(brain, "What did you say?")
    assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "assistant", "user"]


async def test_the_policy_knows_what_the_model_has_found_out(make: Make, chat: ChatServer, tools: ToolServer) -> None:
    brain = make()
    chat.says(Reply("And your name?"), Reply("And your number?"), Reply(status=500))
    assert "Shall I book it?" in await talk(brain, *BOOKING)
    await talk(brain, "Yes.")
    assert tools.calls == [("book_appointment", json.loads(BOOKED))]


async def test_the_model_knows_what_the_policy_has_said(make: Make, chat: ChatServer) -> None:
    brain = make()
    chat.says(Reply(status=500), Reply("As I said."))
    await talk(brain, "How much is a haircut?", "Sorry?")
    assert "forty five dollars" in chat.messages[1]["content"]


async def test_without_a_model_for_a_whole_call_a_time_that_is_taken_is_still_settled(
    make: Make, chat: ChatServer, tools: ToolServer
) -> None:
    brain = make()
    chat.says(Reply(status=503))
    tools.replies = [
        refusal("That time is already taken.", alternatives=("2026-03-05T13:00", "2026-03-05T16:30")),
    ]
    assert "four thirty" in await talk(brain, *BOOKING, "Yes.")
    assert "booked" in await talk(brain, "The second one.", "Yes, please.")
    assert [arguments["starts_at"] for _, arguments in tools.calls] == ["2026-03-05T15:00", "2026-03-05T16:30"]


async def test_a_booking_of_the_policys_that_the_caller_cut_into_is_told_though_the_model_is_back(
    make: Make, chat: ChatServer, tools: ToolServer
) -> None:
    brain = make()
    chat.says(Reply(status=500))
    await talk(brain, *BOOKING)
    tools.gate = asyncio.Event()
    turn = asyncio.create_task(collect(brain.reply("Yes."), brain))
    async with asyncio.timeout(5):
        while not tools.calls:
            await asyncio.sleep(0.01)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    tools.gate.set()
    chat.says(Reply("I know nothing of a booking."))
    assert "You are booked" in await talk(brain, "Hello?")


async def test_a_failed_tool_is_told_by_the_policy_when_the_model_is_away(
    make: Make, chat: ChatServer, tools: ToolServer
) -> None:
    chat.says(Reply(status=500))
    tools.replies = [ToolReply(False, {}, 1.0, code="failed", sentence="Something went wrong on our side.")]
    assert "Something went wrong" in await talk(make(), *BOOKING, "Yes.")


# --- settings --------------------------------------------------------------------------------------------------------
@pytest.fixture
def _no_model_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLM_BASE_URL", "LLM_MODEL", "LLM_API_KEY", "LLM_API_KEY_FILE", "LLM_TIMEOUT_SECONDS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_model_around")
class TestSettings:
    def test_without_an_address_there_is_no_model(self) -> None:
        assert ModelSettings.from_environment() is None

    def test_they_are_read_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"BASE_URL": "http://h/v1", "MODEL": "m", "API_KEY": "k", "TIMEOUT_SECONDS": "1.5"}.items():
            monkeypatch.setenv(f"LLM_{name}", value)
        assert ModelSettings.from_environment() == ModelSettings("http://h/v1", "m", "k", 1.5)

    def test_a_key_may_come_from_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("from the file\n")
        monkeypatch.setenv("LLM_BASE_URL", "http://h/v1")
        monkeypatch.setenv("LLM_API_KEY", "of the variable")
        monkeypatch.setenv("LLM_API_KEY_FILE", str(tmp_path / "key"))
        settings = ModelSettings.from_environment()
        assert settings is not None and settings.api_key == "from the file"
        assert "from the file" not in repr(settings)

    @pytest.mark.parametrize(
        ("name", "value", "sentence"),
        [
            ("LLM_API_KEY_FILE", "/nowhere/key", "LLM_API_KEY_FILE: /nowhere/key cannot be read: No such file"),
            ("LLM_TIMEOUT_SECONDS", "soon", "LLM_TIMEOUT_SECONDS must be a number of seconds above zero, not 'soon'"),
            ("LLM_TIMEOUT_SECONDS", "0", "LLM_TIMEOUT_SECONDS must be a number of seconds above zero, not '0'"),
            ("LLM_TIMEOUT_SECONDS", "nan", "LLM_TIMEOUT_SECONDS must be a number"),
            ("LLM_BASE_URL", "localhost:8080/v1", "LLM_BASE_URL must begin with http:// or https://"),
        ],
    )
    def test_what_is_not_of_its_form_is_named(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
    ) -> None:
        monkeypatch.setenv("LLM_BASE_URL", "http://h/v1")
        monkeypatch.setenv(name, value)
        with pytest.raises(BadSetting, match=sentence):
            ModelSettings.from_environment()
