"""What to say next, without a language model: find what the caller wants, ask for what is missing, confirm, do it.

The template drives it: intents with examples and questions, facts, sentences. It runs no tools and waits for nothing:
an answer names the tool that is due, and what the tool answered is told to it.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable
from typing import Any

from gpu_workers.cascade.brain.dictation import Dictation
from gpu_workers.cascade.brain.hearing.answers import read_yes_no
from gpu_workers.cascade.brain.hearing.words import with_apostrophes, words_of
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.keypad import words_of_keys
from gpu_workers.cascade.brain.offers import Offer
from gpu_workers.cascade.brain.requests import (
    Request,
    asks_for_times,
    calls_off,
    is_in_a_hurry,
    is_question,
    read_agreement,
    read_request,
    refuses,
    split_question,
)
from gpu_workers.cascade.brain.sentences import fill_arguments, fill_sentence, slot_of_argument
from gpu_workers.cascade.brain.slots import Slots, tool_value
from gpu_workers.cascade.brain.subjects import INTENT_LIKENESS, SURE_LIKENESS, SWITCH_LIKENESS, Subjects
from gpu_workers.cascade.brain.task import Intent, Question, Task
from gpu_workers.cascade.brain.tool_client import ToolReply
from gpu_workers.cascade.brain.wording import (
    ANYTHING_ELSE,
    GOODBYE,
    GREETING,
    NOBODY_THERE,
    PUTTING_THROUGH,
    WHO_I_AM,
    capabilities,
    hand_off_intent,
    wish_in_greeting,
)

MISSES_BEFORE_HAND_OFF = 3
MOST_WORDS_OF_A_YES = 3
MOST_WORDS_OF_A_NO = 6
MOST_WORDS_OF_A_REQUEST = 6
"""Longer utterances are what was asked for where that is free text: a message may say `call me back, that's all`."""
MOST_CHARACTERS_OF_A_REASON = 500
PERSONAL = ("name", "phone", "email")
"""Answers that stay good for the caller's next wish."""

_PERSONAL_QUESTIONS = [{"name": name, "type": name} for name in PERSONAL]
MOST_WORDS_OF_AN_INTRODUCTION = 8

LOOK_UP = "check_availability"
DEFAULT_HOUR = datetime.time(9)


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A tool to run before anything more can be said. `is_look_up`: it changes nothing, and may be given up."""

    task: Task
    tool: str
    arguments: dict[str, Any]
    is_look_up: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    sentences: list[str] = dataclasses.field(default_factory=list)
    due: Due | None = None
    hangs_up: bool = False


class Dialogue:
    def __init__(
        self,
        agent: dict[str, Any],
        business: str,
        now: Callable[[], datetime.datetime],
        model: IntentModel,
        *,
        has_keypad: bool = False,
        puts_through: bool = False,
    ) -> None:
        """
        Args:
            has_keypad: the caller is on a telephone, and may key a number in.
            puts_through: a caller who wants a person gets one, once the agent hangs up.
        """
        self._agent = agent
        self._has_keypad = has_keypad
        self._business = business
        self._now = now
        self._declared = [tool for tool in agent.get("tools", []) if isinstance(tool, dict)]
        self._tools = {tool["name"] if isinstance(tool, dict) else tool for tool in agent.get("tools", [])}
        self._hand_off_intent = hand_off_intent(agent, puts_through=puts_through)
        self._intents: list[Intent] = [*agent.get("intents", []), self._hand_off_intent]
        self._can = capabilities(agent.get("intents", []), has_facts=bool(agent.get("facts")))
        self._subjects = Subjects(model, self._intents, agent.get("facts", []))
        self._task: Task | None = None
        self._personal: dict[str, Any] = {}
        self._is_closing = False
        """Whether the agent has asked what else it can do."""
        self._misses = 0
        self._undone: Due | None = None
        """What was due in the turn in which the call was lost."""
        self._said: list[str] = []
        self._said_before = ""

    # --- what a brain asks of it -------------------------------------------------------------------------------------
    def greet(self) -> Answer:
        return self._say(self._agent.get("greeting") or GREETING)

    def come_back(self) -> Answer:
        if self._undone is not None:
            said = self._say("Sorry, I lost you for a moment.")
            return Answer(said.sentences, due=self._undone)
        wish = ANYTHING_ELSE if self._is_closing else "How can I help you?"
        return self._say(f"Sorry, I lost you for a moment. {self._question_again() or wish}")

    def wrap_up(self) -> Answer:
        return self._goodbye("I am sorry, our time is nearly up.")

    def hear(self, heard: str) -> Answer:
        """Take in what the caller said, and return what to say and to do."""
        self._said_before, self._said = " ".join(self._said) or self._said_before, []
        heard = with_apostrophes(heard)
        if not words_of(heard):
            return self._say(self._question_again() or "Sorry, I did not hear that.")
        answers = (self._answer_request, self._answer_to_offer, self._answer_with_fact, self._answer_introduction)
        found = next((found for answer in answers if (found := answer(heard)) is not None), None)
        answer = found or self._answer_wish(heard)
        self._keep_personal(heard)
        return answer

    def _keep_personal(self, heard: str) -> None:
        """Keep a name and a number that the wish under way has no use for: the next one may."""
        own = {each["name"] for each in self._task.questions} if self._task is not None else set()
        Slots(self._personal).fill(
            [each for each in _PERSONAL_QUESTIONS if each["name"] not in own], heard, self._now(), None
        )

    def hear_keys(self, keys: str) -> Answer:
        """Take in keys that the caller pressed, as what they mean now."""
        task = self._task
        return self.hear(
            words_of_keys(
                keys,
                task.asked if task is not None else None,
                is_confirming=task is not None and task.is_confirming,
                has_date=task is not None and task.slots.moment.date is not None,
            )
        )

    def follow(self, heard: str, was_run: Callable[[str], bool]) -> None:
        """Take in a turn that somebody else has answered, or was to answer.

        Args:
            was_run: whether a tool that was due then was run. One that was not is confirmed again, where it was
                confirmed at all, or else run when the call comes back.
        """
        self._undone, due = None, self.hear(heard).due
        if due is not None and not due.is_look_up:
            if was_run(due.tool):
                self._leave_task()
                self._is_closing = True
            elif due.task.intent.get("confirm"):
                due.task.is_confirming = True
            else:
                self._undone = due
        self._misses = 0

    def was_told(self, text: str) -> None:
        """Take note of what the caller has heard, so that it can be said again."""
        self._said = [text]

    # --- what may be asked at any point ------------------------------------------------------------------------------
    def _answer_request(self, heard: str) -> Answer | None:
        task, length, agrees = self._task, len(words_of(heard)), read_yes_no(heard)
        if task is not None and task.asks_for_text and length > MOST_WORDS_OF_A_REQUEST:
            return None
        request = read_request(heard)
        if self._is_closing and agrees is False and length <= MOST_WORDS_OF_A_NO:
            return self._goodbye()
        if request is Request.GOODBYE and not self._is_answered_with_goodbye(heard):
            return self._goodbye()
        if request is Request.PERSON:
            return self._hand_off(heard)
        if request is Request.REPEAT:
            return self._say(self._said_before or self._question_again() or "How can I help you?")
        if request is Request.START_OVER or (request is Request.NEVER_MIND and self._has_no_use_for(heard)):
            self._leave_task()
            return self._say("No problem. What would you like to do?")
        if request is Request.CAPABILITIES:
            return self._say(f"I can {self._can}. {self._question_again() or 'What would you like?'}")
        if request is Request.WHO:
            return self._say(f"I am {WHO_I_AM}. {self._question_again() or 'How can I help you?'}")
        if request is Request.RECALL and task is not None and self._has_no_use_for(heard):
            return self._say(task.recall(self._now()) + self._question_again())
        if request is Request.HELLO:
            return self._say(f"Hello. {self._question_again() or 'How can I help you?'}")
        if request is Request.HOLD_ON:
            return Answer(["Take your time."])
        if request is Request.THANKS and task is None:
            self._is_closing = True
            return self._say(f"You're welcome. {ANYTHING_ELSE}")
        if self._is_closing and agrees is True and length <= MOST_WORDS_OF_A_YES:
            self._is_closing = False
            return self._say("What else can I do for you?")
        if task is None and agrees is not None and length <= MOST_WORDS_OF_A_YES:
            return self._answer_to_greeting(agrees=agrees)
        return None

    def _answer_to_greeting(self, *, agrees: bool) -> Answer:
        """Answer a bare yes or no with nothing under way: the greeting may have asked for it."""
        wish = wish_in_greeting(self._agent)
        if agrees and wish:
            found, likeness = self._subjects.closest_intent(wish, self._now())
            if likeness >= SURE_LIKENESS:
                return self._go_on(self._take_up(found))
        return self._say("What can I do for you?")

    def _is_answered_with_goodbye(self, heard: str) -> bool:
        """Return whether a goodbye comes with an answer: `Anna Smith, that's all`."""
        task = self._task
        if task is None or task.asks_for_text:
            return False
        if task.is_confirming:
            return read_yes_no(heard) is not None or not re.search(r"\b(?:good)?bye\b", heard, re.IGNORECASE)
        return not self._has_no_use_for(heard)

    def _has_no_use_for(self, heard: str) -> bool:
        """Return whether an utterance changes nothing of a task: `I changed my mind, Friday` does."""
        return self._task is not None and not self._task.would_change(heard, self._now())

    def _answer_with_fact(self, heard: str) -> Answer | None:
        task, now = self._task, self._now()
        if task is not None and task.wants_free_times(heard, now):
            return None
        told, asked = split_question(heard)
        changed = task.would_change(told, now) if task is not None and asked else set()
        about = asked if changed else heard
        fact = self._subjects.fact_for(
            task.with_subject(about) if task is not None else about,
            now,
            is_answering=task is not None and task.is_waiting,
            is_answered=task is not None and not changed and task.is_answered_by(heard, now),
        )
        if fact is None:
            return None
        self._misses = 0
        self._is_closing = task is None
        if task is None or not changed:
            return self._say(fact["answer"], self._question_again() or ANYTHING_ELSE)
        said, rest = self._say(fact["answer"]), self._progress(task, told, task.fill(told, now))
        return Answer([*said.sentences, *rest.sentences], due=rest.due)

    def _answer_introduction(self, heard: str) -> Answer | None:
        """Answer a caller who so far has told a name, or a number, and no wish."""
        if self._task is not None or len(words_of(heard)) > MOST_WORDS_OF_AN_INTRODUCTION:
            return None
        told = Slots()
        told.fill(_PERSONAL_QUESTIONS, heard, self._now(), None)
        found, likeness = self._subjects.closest_intent(heard, self._now())
        if not told.values or (found is not self._hand_off_intent and likeness >= INTENT_LIKENESS):
            return None
        self._misses = 0
        hello = f"Hello, {told.values['name']}." if "name" in told.values else "Thank you, I have that."
        return self._say(f"{hello} What can I do for you?")

    # --- wishes ------------------------------------------------------------------------------------------------------
    def _answer_wish(self, heard: str) -> Answer:
        task, now = self._task, self._now()
        found, likeness = self._subjects.closest_intent(heard, now)
        if task is None or (found is not task.intent and likeness >= self._likeness_to_switch(task, heard)):
            if likeness < INTENT_LIKENESS:
                named = self._subjects.intent_by_choice(heard) or self._subjects.intent_by_day(heard, now)
                if named is None:
                    return self._misunderstood(heard)
                found = named
            if found is self._hand_off_intent:
                return self._hand_off(heard)
            task = self._take_up(found)
            changed = task.fill(heard, now)
            if calls_off(heard):
                task.slots.forget_times(task.questions)
            return self._progress(task, heard, changed | self._fill_with_closest_choice(task, heard))
        half_given = task.slots.half_given()
        changed = task.fill(heard, now) or self._fill_with_closest_choice(task, heard)
        heard_a_half = half_given != task.slots.half_given()
        if task.is_confirming and not changed:
            return self._answer_to_confirmation(task, heard, heard_a_half=heard_a_half)
        if task.slots.dictation.is_hopeless:
            return self._hand_off("The agent could not understand the caller's telephone number.")
        if task.is_waiting and not changed and not heard_a_half:
            if refuses(heard) and task.asked is not None and task.asked["type"] in PERSONAL:
                if not task.may_skip_asked:
                    self._misses += 1
                    return self._without_it(task, heard)
                task.skip_asked()
                return self._go_on(task)
            if (named := task.question_named(heard)) is not None:
                task.slots.forget(named["name"])
                return self._ask(task, named)
            return self._look_up(task, heard) or self._misunderstood(heard)
        return self._progress(task, heard, changed)

    def _fill_with_closest_choice(self, task: Task, heard: str) -> set[str]:
        """Take a choice that was named in other words. Only where it is said back before anything is done."""
        question = task.asked or task.missing
        if question is None or question["type"] != "choice" or task.is_confirming or not task.intent.get("confirm"):
            return set()
        choice = self._subjects.closest_choice(heard, question["choices"], is_asked=task.asked is not None)
        if choice is None:
            return set()
        task.slots.values[question["name"]] = choice
        return {question["name"]}

    def _likeness_to_switch(self, task: Task, heard: str) -> float:
        """Return how close another intent must be for it to be taken up in the middle of this one."""
        return SURE_LIKENESS if task.is_answered_by(heard, self._now()) else SWITCH_LIKENESS

    def _without_it(self, task: Task, heard: str) -> Answer:
        if self._misses >= MISSES_BEFORE_HAND_OFF:
            return self._hand_off(heard)
        return self._say(f"I am sorry, I can't do that without it. {self._question_again()}")

    def _progress(self, task: Task, heard: str, changed: set[str]) -> Answer:
        self._misses, task.offer = 0, None
        return self._look_up(task, heard) or self._go_on(task, task.acknowledge(changed, self._now()))

    def _go_on(self, task: Task, preface: str = "") -> Answer:
        """Ask for what is missing, else confirm, else do it."""
        task.asking, task.is_confirming = None, False
        if (question := task.missing) is not None:
            return self._ask(task, question, preface)
        if confirm := task.intent.get("confirm"):
            task.is_confirming = True
            return self._say(preface + self._filled(confirm))
        return self._do(task)

    def _ask(self, task: Task, question: Question, preface: str = "") -> Answer:
        task.asking, task.is_confirming = question["name"], False
        return self._say(preface + task.ask(question, self._now()))

    def _answer_to_confirmation(self, task: Task, heard: str, *, heard_a_half: bool) -> Answer:
        agrees = read_agreement(heard)
        if agrees:
            return self._do(task)
        if heard_a_half:
            # `In the evening instead`: the day stays, and the hour is asked for.
            for question in task.questions:
                if question["type"] == "datetime" and task.slots.moment.whole is None:
                    task.slots.forget(question["name"])
            return self._progress(task, heard, set())
        if (named := task.question_named(heard)) is not None:
            task.slots.forget(named["name"])
            return self._ask(task, named)
        if agrees is False:
            self._misses = 0
            if any(each["type"] not in PERSONAL for each in task.questions):
                return self._say("All right. What should I change?")
            self._leave_task()
            return self._say("All right, then I leave it as it is. What else can I do for you?")
        return self._misunderstood(heard)

    def _answer_to_offer(self, heard: str) -> Answer | None:
        task = self._task
        if task is None or task.offer is None:
            return None
        offer = task.offer
        if (chosen := offer.pick(heard, self._now())) is not None:
            self._misses, task.offer = 0, None
            task.slots.values[offer.slot] = chosen
            return self._go_on(task)
        if read_yes_no(heard) is False and self._has_no_use_for(heard):
            self._misses, task.offer = 0, None
            question = task.question(offer.slot)
            return self._say(question["ask"]) if question else None
        return None

    # --- tools -------------------------------------------------------------------------------------------------------
    def _do(self, task: Task) -> Answer:
        self._misses, task.is_confirming = 0, False
        if tool := task.intent.get("tool"):
            return Answer(due=Due(task, tool, fill_arguments(task.intent, task.slots.values)))
        done = self._filled(task.intent.get("done") or "Thank you, I have that.")
        self._leave_task()
        self._is_closing = True
        # What only tells something to do, `hang up and call nine one one`, stands alone.
        return self._say(done, ANYTHING_ELSE) if task.questions else self._say(done)

    def _look_up(self, task: Task, heard: str) -> Answer | None:
        """Return the look-up of free times that the caller asks for; None without such a wish, or too early for one."""
        question = task.missing
        if question is None or question["type"] != "datetime" or LOOK_UP not in self._tools:
            return None
        service = fill_arguments(task.intent, task.slots.values).get("service")
        wants_soon = task.slots.moment.is_empty and is_in_a_hurry(heard)
        if not service or not (wants_soon or asks_for_times(heard)):
            return None
        task.asking = question["name"]
        arguments = {"service": service}
        if (day := task.slots.moment.date) is not None:
            at = datetime.datetime.combine(day, task.slots.moment.time or DEFAULT_HOUR)
            arguments["starts_at"] = tool_value(at)
        return Answer(due=Due(task, LOOK_UP, arguments, is_look_up=True))

    def hear_from_tool(self, due: Due, outcome: ToolReply) -> Answer:
        """Take in what a tool that was due has answered."""
        self._misses = 0
        return self._after_look_up(due.task, outcome) if due.is_look_up else self._after_deed(due.task, outcome)

    def _after_look_up(self, task: Task, outcome: ToolReply) -> Answer:
        free = [outcome.result["starts_at"]] if outcome.result.get("free") and "starts_at" in outcome.result else []
        task.offer = Offer.of(task.asking or "", [*free, *outcome.alternatives])
        if task.offer is None:
            return self._say(self._question_again())
        return self._say(task.offer.sentence(self._now().date()))

    def _after_deed(self, task: Task, outcome: ToolReply) -> Answer:
        if outcome.ok:
            done = self._filled(task.intent.get("done") or "That is done.", outcome.result)
            self._leave_task()
            if outcome.result.get("puts_through"):
                return Answer(self._say(PUTTING_THROUGH).sentences, hangs_up=True)
            self._is_closing = True
            return self._say(done, ANYTHING_ELSE)
        failed = task.intent.get("failed") or "{error}"
        failed = self._filled(failed, {"error": outcome.sentence or "That did not work."})
        slot = slot_of_argument(task.intent, outcome.slot)
        question = task.question(slot)
        if question is None:
            self._leave_task()
            self._is_closing = True
            return self._say(failed, ANYTHING_ELSE)
        task.slots.forget(slot)
        task.asking = slot
        task.offer = Offer.of(slot, outcome.alternatives)
        return self._say(failed, task.offer.sentence(self._now().date()) if task.offer else question["ask"])

    # --- getting nowhere ---------------------------------------------------------------------------------------------
    def _misunderstood(self, heard: str) -> Answer:
        self._misses += 1
        if self._misses >= MISSES_BEFORE_HAND_OFF:
            return self._hand_off("The agent could not understand the caller.")
        asked = self._task.asked if self._task else None
        if asked is not None and asked["type"] == "email" and {"at", "dot"} & set(words_of(heard)):
            return self._say("I did not get that address right. Could you say it again, slowly?")
        again = self._question_again() or f"I can {self._can}."
        sorry = "I am sorry, I don't know that." if is_question(heard) else "Sorry, I did not understand that."
        return self._say(f"{sorry} {again}")

    def _hand_off(self, reason: str) -> Answer:
        """Ask for a name and a number to call back; where even these are not understood, do without."""
        self._misses = 0
        if self._hand_off_intent["tool"] not in self._tools:
            self._leave_task()
            self._is_closing = True
            return self._say(self._agent.get("hand_off") or NOBODY_THERE, ANYTHING_ELSE)
        if self._task is not None and self._task.intent is self._hand_off_intent:
            return self._do(self._task)
        task = self._take_up(self._hand_off_intent)
        task.slots.values["reason"] = reason[:MOST_CHARACTERS_OF_A_REASON]
        return self._go_on(task)

    # --- state and sentences -----------------------------------------------------------------------------------------
    def _take_up(self, intent: Intent) -> Task:
        self._leave_task()
        slots = Slots(dict(self._personal), dictation=Dictation(has_keypad=self._has_keypad))
        self._task = Task(intent, slots, needed=self._needed_by(intent))
        return self._task

    def _needed_by(self, intent: Intent) -> set[str]:
        """Return the questions without whose answers an intent's tool cannot run."""
        declared = next((tool for tool in self._declared if tool["name"] == intent.get("tool")), None)
        if declared is None:
            return {question["name"] for question in intent.get("questions", [])}
        return {slot_of_argument(intent, name) for name in declared.get("parameters", {}).get("required", [])}

    def _leave_task(self) -> None:
        if self._task is not None:
            self._personal |= {name: value for name, value in self._task.slots.values.items() if name in PERSONAL}
        self._task = None
        self._is_closing = False

    def _question_again(self) -> str:
        if self._task is None:
            return ""
        if self._task.offer is not None:
            return self._task.offer.sentence(self._now().date())
        return self._filled(self._task.question_again(self._now()))

    def _goodbye(self, preface: str = "") -> Answer:
        said = self._say(f"{preface} {self._agent.get('goodbye') or GOODBYE}".strip())
        return Answer(said.sentences, hangs_up=True)

    def _filled(self, sentence: str, result: dict[str, Any] | None = None) -> str:
        """Fill a sentence's slots, from a tool's result before what the caller said."""
        values = self._task.slots.values if self._task is not None else {}
        told = {key: value for key, value in (result or {}).items() if value is not None}
        return fill_sentence(sentence, {"business": self._business, **values, **told}, self._now())

    def _say(self, *sentences: str) -> Answer:
        filled = [self._filled(sentence) for sentence in sentences if sentence]
        self._said += filled
        return Answer(filled)
