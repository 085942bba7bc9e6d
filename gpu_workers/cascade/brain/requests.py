"""What a caller may ask at any point, whatever the agent is for."""

from __future__ import annotations

import enum
import re

from gpu_workers.cascade.brain.hearing.words import words_of


class Request(enum.Enum):
    GOODBYE = enum.auto()
    PERSON = enum.auto()
    REPEAT = enum.auto()
    NEVER_MIND = enum.auto()
    START_OVER = enum.auto()
    CAPABILITIES = enum.auto()
    THANKS = enum.auto()


_PEOPLE = r"person|human|someone|somebody|manager|owner|agent|representative|operator|staff|people|doctor|nurse"

_PHRASES: list[tuple[Request, str]] = [
    (Request.START_OVER, r"\b(start over|start again|from the beginning|begin again)\b"),
    (
        Request.PERSON,
        rf"\b(?:speak|talk|put me through|transfer me|connect me)\b.{{0,20}}\b(?:{_PEOPLE})\b"
        r"|\b(?:real|actual|live) (?:person|human)\b|^(?:a )?(?:human|person|representative|operator)(?: please)?$",
    ),
    (
        Request.REPEAT,
        r"\b(say that again|repeat that|come again|what did you say|can you repeat|could you repeat"
        r"|i didn't (?:catch|hear|get) (?:that|you))\b|^(?:pardon|pardon me|sorry|excuse me|what|repeat)$",
    ),
    (Request.NEVER_MIND, r"\b(never ?mind|forget (?:it|about it|that)|leave it|changed my mind)\b"),
    (Request.CAPABILITIES, r"\bwhat (?:can|do) you (?:do|help)|\bhow can you help|\bwhat are my options"),
    (
        Request.GOODBYE,
        r"\b(goodbye|good bye|bye|bye bye|see you|have a (?:nice|good|great|lovely) (?:day|one|evening|weekend))\b|"
        r"\b(that's all|that is all|that's everything|that is everything|that'll be all|that will be all|nothing else|"
        r"i'm all set|i am all set|i'm done|we're done|no more questions)\b",
    ),
    (
        Request.THANKS,
        r"^(?:(?:okay|ok|great|perfect|lovely|alright|wonderful) )*(?:thanks|thank you)"
        r"(?: (?:so much|very much|a lot))?$",
    ),
]

_QUESTION_WORDS = {
    "what",
    "what's",
    "when",
    "where",
    "where's",
    "how",
    "how's",
    "which",
    "who",
    "why",
    "do",
    "does",
    "is",
    "are",
    "can",
    "could",
    "will",
    "would",
    "should",
    "did",
}


_WORDS_FOR_FREE_TIMES = {
    "available",
    "availability",
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


def asks_for_times(heard: str) -> bool:
    """Return whether an utterance asks which times are free, or leaves the choice to the agent."""
    return bool(_WORDS_FOR_FREE_TIMES & set(words_of(heard)))


def read_request(heard: str) -> Request | None:
    """Return what of the above was asked, or None."""
    text = " ".join(words_of(heard))
    return next((request for request, pattern in _PHRASES if re.search(pattern, text)), None)


def is_question(heard: str) -> bool:
    """Return whether an utterance asks something."""
    words = words_of(heard)
    while words and words[0] in (
        "and",
        "so",
        "but",
        "oh",
        "um",
        "uh",
        "okay",
        "ok",
        "hi",
        "hello",
        "well",
        "yes",
        "no",
    ):
        words.pop(0)
    return heard.rstrip().endswith("?") or bool(words) and words[0] in _QUESTION_WORDS
