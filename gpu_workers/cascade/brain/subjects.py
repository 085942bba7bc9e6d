"""What an utterance is about: one of the agent's intents, or one of its facts."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from typing import Any

from gpu_workers.cascade.brain.hearing.words import words_of
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.requests import is_question
from gpu_workers.cascade.brain.slots import Slots

INTENT_LIKENESS = 0.42
FACT_LIKENESS = 0.55
SWITCH_LIKENESS = 0.60
SURE_LIKENESS = 0.72
"""How close in meaning (cosine) an utterance must be to an example; higher where something else is under way, and
highest where the utterance would also do as an answer to what was asked."""
UNASKED_FACT_LIKENESS = 0.70
"""For a fact that was touched without a question."""
ANSWER_WEIGHT = 0.06
"""Each question of an intent that an utterance answers by itself brings the two closer by so much."""
KEYWORD_WEIGHT = 0.08
"""A word that belongs to one intent alone brings an utterance closer to it by so much."""
SHORTEST_KEYWORD = 4

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
            likeness = max(self._model.closest(piece, [intent["examples"]])[1] for piece in pieces)
            likeness += ANSWER_WEIGHT * len(Slots().fill(intent.get("questions", []), heard, now, asked=None))
            likeness += KEYWORD_WEIGHT * bool(keywords & words)
            if likeness > closest:
                best, closest = intent, likeness
        return best, closest

    def fact_for(
        self, heard: str, now: datetime.datetime, *, is_answering: bool = False, is_answered: bool = False
    ) -> Fact | None:
        """Return the fact that is asked for, where it is closer than any intent.

        Args:
            is_answering: the agent waits for an answer; only a question is no answer then.
            is_answered: the utterance would do as that answer: `can I come on Saturday at ten?`
        """
        asks = is_question(heard)
        if not self._facts or is_answering and not asks:
            return None
        best, likeness = max(
            (self._model.closest(piece, self._asked_of_facts) for piece in _pieces(heard)), key=lambda found: found[1]
        )
        needed = SURE_LIKENESS if is_answered else FACT_LIKENESS if asks else UNASKED_FACT_LIKENESS
        if likeness < needed:
            return None
        return self._facts[best] if likeness >= self.closest_intent(heard, now)[1] else None


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
