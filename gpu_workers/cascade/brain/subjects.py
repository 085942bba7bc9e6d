"""What an utterance is about: one of the agent's intents, or one of its facts."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from typing import Any

from gpu_workers.cascade.brain.hearing.answers import read_choice
from gpu_workers.cascade.brain.hearing.times import read_moment
from gpu_workers.cascade.brain.hearing.words import words_of
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.requests import CALLS_OFF, calls_off, is_question
from gpu_workers.cascade.brain.slots import Slots

INTENT_LIKENESS = 0.42
FACT_LIKENESS = 0.55
SWITCH_LIKENESS = 0.60
SURE_LIKENESS = 0.72
"""How close in meaning (cosine) an utterance must be to an example; higher where something else is under way, and
highest where the utterance would also do as an answer to what was asked."""
UNASKED_FACT_LIKENESS = 0.70
UNASKED_FACT_LEAD = 0.05
"""For a fact that was touched without a question, and how much closer it must be than any intent: `I want to cancel`
is a wish."""
ANSWER_WEIGHT = 0.06
"""Each question of an intent that an utterance answers by itself brings the two closer by so much."""
CHOICE_WEIGHT = 0.12
"""A choice that is named tells more than a day or a number."""
CANNOT_WEIGHT = 0.15
"""For meaning as embeddings see it, `I can't come on Thursday` is close to `I want to come on Thursday`: an utterance
like that is so much further from an intent without any such example."""
UNDOING_WEIGHT = 0.20
"""Likewise for `I have to call off my haircut`, and `I'd like to move it to Saturday`, where nothing of the kind was
said."""
KEYWORD_WEIGHT = 0.08
"""A word that belongs to one intent alone brings an utterance closer to it by so much."""
SHORTEST_KEYWORD = 4
CHOICE_LIKENESS = 0.35
UNASKED_CHOICE_LIKENESS = 0.42
CHOICE_LEAD = 0.10
UNASKED_CHOICE_LEAD = 0.20
"""How close another word must be to a choice, and how much closer than to the next one."""
MOST_WORDS_OF_A_CHOICE = 12
MOST_WORDS_OF_A_DAY = 6

_UNDOES = re.compile(
    r"\b(?:cancel\w*|off|delete|drop|remove|scrap|no longer|any ?more|don't need|do not need|not)\b", re.IGNORECASE
)

_MOVES = re.compile(
    r"\b(?:mov\w+|chang\w+|reschedul\w*|swap\w*|switch\w*|shift\w*|postpone\w*|push\w*|instead|another|other|different|later|"
    r"earlier|sooner|make it|rather)\b",
    re.IGNORECASE,
)

Intent = dict[str, Any]
Fact = dict[str, Any]


class Subjects:
    def __init__(self, model: IntentModel, intents: list[Intent], facts: list[Fact]) -> None:
        self._model = model
        self._intents = intents
        self._keywords = _keywords(intents)
        self._facts = facts
        self._asked_of_facts = [[fact["question"], *fact.get("also", [])] for fact in facts]

    def closest_intent(self, heard: str, now: datetime.datetime) -> tuple[Intent, float]:
        """Return the intent closest in meaning, and how close. Its own words and answers to its questions count too."""
        pieces, words = _pieces(heard), set(words_of(heard))
        best, closest = self._intents[-1], -1.0
        for intent, keywords in zip(self._intents, self._keywords, strict=True):
            likeness = max(self._likeness(piece, intent["examples"]) for piece in pieces)
            questions = intent.get("questions", [])
            for answered in Slots().fill(questions, heard, now, asked=None):
                is_choice = any(each["name"] == answered and each["type"] == "choice" for each in questions)
                likeness += CHOICE_WEIGHT if is_choice else ANSWER_WEIGHT
            likeness += KEYWORD_WEIGHT * bool(keywords & words)
            if likeness > closest:
                best, closest = intent, likeness
        return best, closest

    def _likeness(self, heard: str, examples: list[str]) -> float:
        """Return how close an utterance is to the closest example that does not deny what it says."""
        likeness, is_off = -1.0, calls_off(heard)
        missing = [kind for kind in (_UNDOES, _MOVES, CALLS_OFF) if not is_off and not kind.search(heard)]
        for example in examples:
            weight = UNDOING_WEIGHT if any(kind.search(example) for kind in missing) else 0.0
            likeness = max(likeness, self._model.closest(heard, [[example]])[1] - weight)
        is_denied = is_off and not any(map(calls_off, examples))
        return likeness - CANNOT_WEIGHT if is_denied else likeness

    def intent_by_choice(self, heard: str) -> Intent | None:
        """Return the one intent among whose choices an utterance names one: `highlights, I guess`."""
        naming = [
            intent
            for intent in self._intents
            if any(
                each["type"] == "choice" and read_choice(heard, each["choices"]) for each in intent.get("questions", [])
            )
        ]
        return naming[0] if len(naming) == 1 else None

    def intent_by_day(self, heard: str, now: datetime.datetime) -> Intent | None:
        """Return the first intent that asks for a day, where little more than a day was said: `okay, Tuesday then`."""
        if len(words_of(heard)) > MOST_WORDS_OF_A_DAY or read_moment(heard, now).date is None:
            return None
        asking = (each for each in self._intents if any(q["type"] == "datetime" for q in each.get("questions", [])))
        return next(asking, None)

    def closest_choice(self, heard: str, choices: list[str], *, is_asked: bool) -> str | None:
        """Return the choice that is meant in other words: `inside` for `dining room`; None where that is not plain.

        Args:
            is_asked: the agent has just asked for it; otherwise it must be plainer.
        """
        if is_asked and is_question(heard) or len(words_of(heard)) > MOST_WORDS_OF_A_CHOICE:
            return None
        needed = CHOICE_LIKENESS if is_asked else UNASKED_CHOICE_LIKENESS
        ranked = sorted(((self._model.closest(heard, [[choice]])[1], choice) for choice in choices), reverse=True)
        runner_up = ranked[1][0] if len(ranked) > 1 else 0.0
        lead = CHOICE_LEAD if is_asked else UNASKED_CHOICE_LEAD
        return ranked[0][1] if ranked[0][0] >= max(needed, runner_up + lead) else None

    def fact_for(
        self, heard: str, now: datetime.datetime, *, is_answering: bool = False, is_answered: bool = False
    ) -> Fact | None:
        """Return the fact that is asked for, where it is closer than any intent.

        Args:
            is_answering: the agent waits for an answer; what is no question must be plainer then.
            is_answered: the utterance would do as that answer: `can I come on Saturday at ten?`
        """
        asks = is_question(heard)
        if not self._facts or (is_answering and is_answered and not asks):
            return None
        best, likeness = max(
            (self._model.closest(piece, self._asked_of_facts) for piece in _pieces(heard)), key=lambda found: found[1]
        )
        needed = FACT_LIKENESS if asks else UNASKED_FACT_LIKENESS
        if is_answered or (is_answering and not asks):
            needed = SURE_LIKENESS
        if likeness < needed:
            return None
        lead = 0.0 if asks else UNASKED_FACT_LEAD
        return self._facts[best] if likeness >= self.closest_intent(heard, now)[1] + lead else None


def _keywords(intents: list[Intent]) -> list[set[str]]:
    """Return for each intent the words of its name, and of several examples, that no other intent's examples have."""
    seen = [Counter(word for example in intent["examples"] for word in set(words_of(example))) for intent in intents]
    keywords = []
    for intent, own in zip(intents, seen, strict=True):
        elsewhere = {word for other in seen if other is not own for word in other}
        candidates = {*intent["name"].split("_"), *(word for word, count in own.items() if count > 1)}
        keywords.append({word for word in candidates - elsewhere if len(word) >= SHORTEST_KEYWORD})
    return keywords


def _pieces(heard: str) -> list[str]:
    """Return the utterance and its sentences: a wish may follow a greeting or a story."""
    sentences = [piece.strip() for piece in re.split(r"(?<=[.!?])\s+", heard) if len(words_of(piece)) > 1]
    return [heard, *sentences] if len(sentences) > 1 else [heard]
