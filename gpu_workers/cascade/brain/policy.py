"""A conversation without a language model: find what the caller wants, ask for what is missing, confirm, do it.

The template drives it: intents with examples and questions, facts, sentences. A turn that is cut off by the caller leaves
the state as it stands: it changes before anything is said, except for a tool's outcome, which the next turn picks up.
"""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from gpu_workers.cascade.brain import slots as slot_filling
from gpu_workers.cascade.brain import speaking
from gpu_workers.cascade.brain.hearing import answers
from gpu_workers.cascade.brain.hearing.times import read_moment
from gpu_workers.cascade.brain.hearing.words import words_of
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.requests import Request, is_question, read_request
from gpu_workers.cascade.brain.slots import Slots, say_value, tool_value
from gpu_workers.cascade.brain.speech import HangUp, Part, Say, ToolCalled
from gpu_workers.cascade.brain.tool_client import ToolClient, ToolReply
from gpu_workers.protocol import Start, Utterance

INTENT_LIKENESS = 0.42
FACT_LIKENESS = 0.55
SWITCH_LIKENESS = 0.60
SURE_LIKENESS = 0.72
"""How close in meaning (cosine) an utterance must be to an example; higher where something else is under way, and highest
where the utterance would also do as an answer to what was asked."""
ANSWER_WEIGHT = 0.06
"""Each question of an intent that an utterance answers by itself brings the two closer by so much."""
MISSES_BEFORE_HAND_OFF = 3
PERSONAL = ("name", "phone", "email")
"""Answers that stay good for the caller's next wish."""

ANYTHING_ELSE = "Is there anything else I can help you with?"
GOODBYE = "Thank you for calling. Goodbye."
HAND_OFF = "I will ask somebody to call you back."


class PolicyBrain:
    """See gpu_workers.cascade.brain.speech.Brain."""

    def __init__(
        self, start: Start, tools: ToolClient, now: Callable[[], datetime.datetime], intents: IntentModel
    ) -> None:
        """`now`: the business's wall clock, without a zone."""
        self._agent = start.agent
        self._business = str(start.business.get("name") or "us")
        self._history = start.history
        self._tools = tools
        self._now = now
        self._model = intents
        self._tool_names = {tool["name"] if isinstance(tool, dict) else tool for tool in start.agent.get("tools", [])}
        self._intents: list[dict[str, Any]] = [*start.agent.get("intents", []), self._hand_off_intent()]
        self._facts: list[dict[str, Any]] = start.agent.get("facts", [])
        self._turn = 0
        self._misses = 0
        self._last_said = ""
        self._is_replaying = False
        self._running: asyncio.Task[ToolReply] | None = None
        self._leave_intent()
        self._slots = Slots()

    # --- the interface -----------------------------------------------------------------------------------------------
    async def greet(self) -> AsyncIterator[Part]:
        if self._history:
            await self.catch_up(self._history)
            yield self._say(f"Sorry, I lost you for a moment. {self._where_we_were()}")
        else:
            yield self._say(self._agent.get("greeting") or "Hello. How can I help you?")

    async def reply(self, heard: str) -> AsyncIterator[Part]:
        self._turn += 1
        if self._running is not None:
            async for part in self._finish_tool():
                yield part
        async for part in self._respond(heard):
            yield part

    async def wrap_up(self) -> AsyncIterator[Part]:
        goodbye = self._agent.get("goodbye") or GOODBYE
        yield self._say(f"I am sorry, our time is nearly up. {goodbye}")
        yield HangUp()

    def was_spoken(self, text: str, *, interrupted: bool) -> None:
        if text:
            self._last_said = text

    async def close(self) -> None:
        """Nothing is held."""

    async def catch_up(self, conversation: Sequence[Utterance]) -> None:
        """Go through a conversation that another brain has led, without speaking and without running a tool again."""
        self._leave_intent()
        self._slots, self._misses, self._turn = Slots(), 0, 0
        self._is_replaying = True
        try:
            for said in conversation:
                if said.role == "caller":
                    self._turn += 1
                    async for _ in self._respond(said.text):
                        pass
        finally:
            self._is_replaying = False

    # --- one turn ----------------------------------------------------------------------------------------------------
    async def _respond(self, heard: str) -> AsyncIterator[Part]:
        if not words_of(heard):
            yield self._say(self._pending_question() or "Sorry, I did not hear that.")
            return
        async for part in self._respond_to_request(heard):
            if part is _NOT_A_REQUEST:
                break
            yield part
        else:
            return
        if self._offered:
            chosen = self._chosen_alternative(heard)
            if chosen is not None:
                self._slots.values[self._offered_for] = chosen
                self._offered = []
                async for part in self._go_on():
                    yield part
                return
        if (fact := self._fact_for(heard)) is not None:
            self._misses = 0
            yield self._say(fact["answer"])
            yield self._say(self._pending_question() or ANYTHING_ELSE)
            self._is_closing = self._intent is None
            return
        async for part in self._respond_to_task(heard):
            yield part

    async def _respond_to_request(self, heard: str) -> AsyncIterator[Part]:
        """Answer what may be asked at any point; yield _NOT_A_REQUEST where it is nothing of the kind."""
        request = read_request(heard)
        wants_no_more = self._is_closing and answers.read_yes_no(heard) is False and len(words_of(heard)) <= 6
        if wants_no_more or (request is Request.GOODBYE and not self._is_confirming):
            yield self._say(self._agent.get("goodbye") or GOODBYE)
            yield HangUp()
        elif request is Request.PERSON:
            async for part in self._hand_off(heard):
                yield part
        elif request is Request.REPEAT:
            yield self._say(self._last_said or self._pending_question() or "How can I help you?")
        elif request is Request.START_OVER or (request is Request.NEVER_MIND and self._intent is not None):
            self._leave_intent()
            yield self._say("No problem. What would you like to do?")
        elif request is Request.CAPABILITIES:
            yield self._say(f"I can {self._capabilities()}. What would you like?")
        elif request is Request.THANKS and self._intent is None:
            self._is_closing = True
            yield self._say(f"You're welcome. {ANYTHING_ELSE}")
        elif self._is_closing and answers.read_yes_no(heard) is True and len(words_of(heard)) <= 3:
            self._is_closing = False
            yield self._say("What else can I do for you?")
        else:
            yield _NOT_A_REQUEST

    async def _respond_to_task(self, heard: str) -> AsyncIterator[Part]:
        found, likeness = self._closest_intent(heard)
        if self._intent is None or (found is not self._intent and likeness >= self._likeness_to_switch(heard)):
            if likeness < INTENT_LIKENESS:
                async for part in self._misunderstood():
                    yield part
                return
            self._take_up(found)
        assert self._intent is not None
        questions = self._intent.get("questions", [])
        was_confirming, self._is_confirming = self._is_confirming, False
        changed = self._slots.fill(questions, heard, self._now(), self._asking)
        if was_confirming and not changed:
            async for part in self._respond_to_confirmation(heard):
                yield part
            return
        # Taking up an intent is progress too, even where the sentence held no answer yet.
        progressed = changed or self._asking is None
        asked = next((each for each in questions if each["name"] == self._asking), None)
        if not progressed and asked is not None:
            if again := slot_filling.ask_again(asked, self._slots, heard, self._now()):
                self._misses = 0
                if asked["type"] == "datetime" and (part_found := await self._offer_free_times(heard)):
                    for part in part_found:
                        yield part
                    return
                yield self._say(again)
                return
            async for part in self._misunderstood():
                yield part
            return
        self._misses = 0
        self._offered = []
        async for part in self._go_on(noted="phone" if "phone" in changed else ""):
            yield part

    async def _respond_to_confirmation(self, heard: str) -> AsyncIterator[Part]:
        agreed = answers.read_yes_no(heard)
        if agreed:
            self._misses = 0
            async for part in self._run_tool():
                yield part
        elif agreed is False:
            self._misses = 0
            self._asking = None
            self._is_confirming = True
            yield self._say("All right. What should I change?")
        else:
            self._is_confirming = True
            async for part in self._misunderstood():
                yield part

    async def _go_on(self, *, noted: str = "") -> AsyncIterator[Part]:
        """Ask for what is missing, else confirm, else do it."""
        assert self._intent is not None
        questions = self._intent.get("questions", [])
        heard_number = f"I have {speaking.say_phone(self._slots.values['phone'])}. " if noted == "phone" else ""
        question = self._slots.missing(questions)
        if question is not None:
            self._asking = question["name"]
            partial = slot_filling.ask_again(question, self._slots, "", self._now())
            yield self._say(heard_number + (partial or question["ask"]))
        elif confirm := self._intent.get("confirm"):
            self._is_confirming, self._asking = True, None
            yield self._say(heard_number + self._filled(confirm))
        else:
            async for part in self._run_tool():
                yield part

    async def _misunderstood(self) -> AsyncIterator[Part]:
        self._misses += 1
        if self._misses >= MISSES_BEFORE_HAND_OFF and self._intent is not self._intents[-1]:
            async for part in self._hand_off("The agent could not understand the caller."):
                yield part
            return
        again = self._pending_question()
        yield self._say(
            f"Sorry, I did not understand that. {again}"
            if again
            else (f"Sorry, I did not understand that. I can {self._capabilities()}.")
        )

    # --- tools -------------------------------------------------------------------------------------------------------
    async def _run_tool(self) -> AsyncIterator[Part]:
        assert self._intent is not None
        self._is_confirming = False
        tool = self._intent.get("tool")
        if not tool or self._is_replaying:
            done = self._filled(self._intent.get("done") or "Thank you, I have that.")
            self._leave_intent()
            self._is_closing = True
            if not self._is_replaying:
                yield self._say(done)
                yield self._say(ANYTHING_ELSE)
            return
        # Shielded: a caller who speaks now must not leave a booking made and never told.
        self._running = asyncio.create_task(self._tools.call(tool, self._arguments(), self._turn), name=f"tool {tool}")
        async for part in self._finish_tool():
            yield part

    async def _finish_tool(self) -> AsyncIterator[Part]:
        assert self._running is not None and self._intent is not None
        intent = self._intent
        outcome = await asyncio.shield(self._running)
        self._running = None
        sentences = self._after_tool(intent, outcome)
        yield ToolCalled(intent["tool"], outcome.ok, outcome.duration_ms)
        for sentence in sentences:
            yield self._say(sentence)

    def _after_tool(self, intent: dict[str, Any], outcome: ToolReply) -> list[str]:
        """Take note of a tool's outcome; return what to say of it."""
        if outcome.ok:
            done = self._filled(intent.get("done") or "That is done.", outcome.result)
            self._leave_intent()
            self._is_closing = True
            return [done, ANYTHING_ELSE]
        failed = (intent.get("failed") or "{error}").replace("{error}", outcome.sentence or "That did not work.")
        slot = self._slot_of_argument(intent, outcome.slot)
        question = next((each for each in intent.get("questions", []) if each["name"] == slot), None)
        if question is None:
            self._leave_intent()
            self._is_closing = True
            return [self._filled(failed), ANYTHING_ELSE]
        self._slots.forget(slot)
        self._asking = slot
        if offer := self._offer(outcome.alternatives, slot):
            return [self._filled(failed), offer]
        return [self._filled(failed), question["ask"]]

    async def _offer_free_times(self, heard: str) -> list[Part] | None:
        """Look up free times where the caller asks for some, on the day that is known."""
        wants = {
            "available",
            "free",
            "opening",
            "openings",
            "times",
            "slots",
            "earliest",
            "soonest",
            "anytime",
            "whenever",
        }
        service = self._slots.values.get("service")
        if "check_availability" not in self._tool_names or not service or not wants & set(words_of(heard)):
            return None
        moment = self._slots.moment
        arguments = {"service": service}
        if moment.date is not None:
            at = datetime.datetime.combine(moment.date, moment.time or datetime.time(9))
            arguments["starts_at"] = tool_value(at)
        outcome = await self._tools.call("check_availability", arguments, self._turn)
        called = ToolCalled("check_availability", outcome.ok, outcome.duration_ms)
        offer = self._offer(outcome.alternatives, self._asking or "starts_at")
        return [called, self._say(offer)] if offer else None

    def _offer(self, alternatives: list[str], slot: str) -> str:
        times = []
        for each in alternatives[:3]:
            try:
                times.append(datetime.datetime.fromisoformat(each).replace(tzinfo=None))
            except ValueError:
                continue
        self._offered, self._offered_for = times, slot
        if not times:
            return ""
        today = self._now().date()
        said, day = [], None
        for at in times:
            said.append(speaking.say_time(at.time()) if at.date() == day else speaking.say_moment(at, today))
            day = at.date()
        return f"I could offer {speaking.join_options(said)}. Which would you like?"

    def _chosen_alternative(self, heard: str) -> datetime.datetime | None:
        chosen = slot_filling.pick_alternative(heard, self._offered, self._now())
        if chosen is None and len(self._offered) == 1 and answers.read_yes_no(heard):
            return self._offered[0]
        said = read_moment(heard, self._now())
        # Another day than any that was offered is a new wish.
        return None if chosen and said.date is not None and said.date != chosen.date() else chosen

    def _arguments(self) -> dict[str, Any]:
        assert self._intent is not None
        mapping = self._intent.get("arguments")
        if not mapping:
            return {name: tool_value(value) for name, value in self._slots.values.items() if name in self._own_slots()}
        arguments = {}
        for name, template in mapping.items():
            slot = re.fullmatch(r"\{(\w+)\}", template) if isinstance(template, str) else None
            if slot is None:
                arguments[name] = self._written(template) if isinstance(template, str) else template
            elif (value := self._slots.values.get(slot[1])) is not None:
                arguments[name] = tool_value(value)
        return arguments

    def _written(self, template: str) -> str:
        """Fill a text that people will read: values as they are written, not as they are said."""

        def value_of(match: re.Match[str]) -> str:
            value = tool_value(self._slots.values.get(match[1], ""))
            return str(value) if not isinstance(value, bool) else "yes" if value else "no"

        return re.sub(r"\{(\w+)\}", value_of, template)

    def _own_slots(self) -> set[str]:
        assert self._intent is not None
        return {question["name"] for question in self._intent.get("questions", [])}

    @staticmethod
    def _slot_of_argument(intent: dict[str, Any], argument: str) -> str:
        template = str((intent.get("arguments") or {}).get(argument, ""))
        match = re.fullmatch(r"\{(\w+)\}", template)
        return match[1] if match else argument

    # --- finding out what is meant -----------------------------------------------------------------------------------
    def _closest_intent(self, heard: str) -> tuple[dict[str, Any], float]:
        """Return the intent closest in meaning, and how close; what an utterance answers of its questions counts too."""
        best = (self._intents[-1], -1.0)
        for intent in self._intents:
            likeness = max(self._model.closest(piece, [intent["examples"]])[1] for piece in _pieces(heard))
            answered = Slots().fill(intent.get("questions", []), heard, self._now(), asked=None)
            likeness += ANSWER_WEIGHT * len(answered)
            if likeness > best[1]:
                best = intent, likeness
        return best

    def _fact_for(self, heard: str) -> dict[str, Any] | None:
        """Return the fact that is asked for, where it is closer than any intent."""
        if not self._facts or self._is_confirming and not is_question(heard):
            return None
        groups = [[fact["question"], *fact.get("also", [])] for fact in self._facts]
        best, likeness = max(
            (self._model.closest(piece, groups) for piece in _pieces(heard)), key=lambda found: found[1]
        )
        needed = FACT_LIKENESS if is_question(heard) else SWITCH_LIKENESS + 0.1
        if likeness < needed or likeness < self._closest_intent(heard)[1]:
            return None
        if self._asking and not is_question(heard):
            return None
        return self._facts[best]

    def _likeness_to_switch(self, heard: str) -> float:
        """Return how close another intent must be for it to be taken up in the middle of this one."""
        return SURE_LIKENESS if self._answers(heard) else SWITCH_LIKENESS

    def _answers(self, heard: str) -> bool:
        """Return whether an utterance answers what was asked, so that it is less likely a new wish."""
        if self._is_confirming:
            return answers.read_yes_no(heard) is not None
        assert self._intent is not None
        asked = [each for each in self._intent.get("questions", []) if each["name"] == self._asking]
        trial = Slots(dict(self._slots.values), self._slots.moment, self._slots.digits)
        return bool(asked and trial.fill(asked, heard, self._now(), self._asking))

    # --- state -------------------------------------------------------------------------------------------------------
    def _leave_intent(self) -> None:
        self._intent: dict[str, Any] | None = None
        self._asking: str | None = None
        self._is_confirming = False
        self._is_closing = False
        self._offered: list[datetime.datetime] = []
        self._offered_for = ""

    def _take_up(self, intent: dict[str, Any]) -> None:
        self._leave_intent()
        self._intent = intent
        kept = {name: value for name, value in self._slots.values.items() if name in PERSONAL}
        self._slots = Slots(kept)

    async def _hand_off(self, reason: str) -> AsyncIterator[Part]:
        self._misses = 0
        self._take_up(self._intents[-1])
        self._slots.values["reason"] = reason[:500]
        if "hand_off" not in self._tool_names:
            self._leave_intent()
            self._is_closing = True
            yield self._say(f"{self._agent.get('hand_off') or HAND_OFF} {ANYTHING_ELSE}")
            return
        async for part in self._go_on():
            yield part

    def _hand_off_intent(self) -> dict[str, Any]:
        return {
            "name": "hand_off",
            "examples": ["I want to speak to a person", "Can I talk to somebody?", "Please have somebody call me back"],
            "questions": [
                {
                    "name": "name",
                    "type": "name",
                    "ask": "I will have somebody call you back. What is your name, please?",
                },
                {"name": "phone", "type": "phone", "ask": "And which number can they reach you on?"},
            ],
            "tool": "hand_off",
            "arguments": {"reason": "{reason}", "name": "{name}", "phone": "{phone}"},
            "done": self._agent.get("hand_off") or HAND_OFF,
        }

    def _pending_question(self) -> str:
        """Return what the agent waits for, as it would ask it again."""
        if self._intent is None:
            return ""
        if self._is_confirming and self._slots.missing(self._intent.get("questions", [])) is None:
            return self._filled(self._intent.get("confirm", ""))
        question = next((each for each in self._intent.get("questions", []) if each["name"] == self._asking), None)
        if question is None:
            return ""
        return slot_filling.ask_again(question, self._slots, "", self._now()) or question["ask"]

    def _where_we_were(self) -> str:
        return self._pending_question() or (ANYTHING_ELSE if self._is_closing else "How can I help you?")

    def _capabilities(self) -> str:
        names = [intent["name"].replace("_", " ") for intent in self._intents[:-1] if intent.get("tool")]
        wishes = {
            "book": "book an appointment",
            "reschedule": "move one",
            "cancel": "cancel one",
            "message": "take a message",
        }
        can = [wishes.get(name, f"help you to {name}") for name in names]
        return speaking.join_options([*can, "answer questions"] if self._facts else can) or "take a message"

    def _filled(self, sentence: str, result: dict[str, Any] | None = None) -> str:
        """Fill a sentence's slots, from a tool's result before what the caller said."""
        known = {**self._slots.values, **{key: value for key, value in (result or {}).items() if value is not None}}
        now = self._now()

        def value_of(match: re.Match[str]) -> str:
            name = match[1]
            if name == "business":
                return self._business
            return say_value(known[name], now, name=name) if name in known else ""

        filled = re.sub(r"\{(\w+)\}", value_of, sentence)
        return re.sub(r" +", " ", re.sub(r"\bon (today|tomorrow)\b", r"\1", filled))

    def _say(self, sentence: str) -> Say:
        sentence = self._filled(sentence)
        self._last_said = sentence
        return Say(sentence)


_NOT_A_REQUEST = Say("")


def _pieces(heard: str) -> list[str]:
    """Return the utterance and its sentences: a wish may follow a greeting or a story."""
    sentences = [piece.strip() for piece in re.split(r"(?<=[.!?])\s+", heard) if len(words_of(piece)) > 1]
    return [heard, *sentences] if len(sentences) > 1 else [heard]
