"""What a caller may ask at any point, whatever the agent is for."""

from __future__ import annotations

import enum
import re

from gpu_workers.cascade.brain.hearing.answers import read_yes_no
from gpu_workers.cascade.brain.hearing.words import words_of


class Request(enum.Enum):
    GOODBYE = enum.auto()
    PERSON = enum.auto()
    REPEAT = enum.auto()
    NEVER_MIND = enum.auto()
    START_OVER = enum.auto()
    CAPABILITIES = enum.auto()
    WHO = enum.auto()
    RECALL = enum.auto()
    THANKS = enum.auto()
    HELLO = enum.auto()
    HOLD_ON = enum.auto()


_PEOPLE = r"person|human|someone|somebody|manager|owner|agent|representative|operator|staff|people|doctor|nurse"

_PHRASES: list[tuple[Request, str]] = [
    (Request.START_OVER, r"\b(start over|start again|from the beginning|begin again)\b"),
    (
        Request.WHO,
        r"\b(?:are you|is this|am i (?:talking|speaking) (?:to|with)) (?:an? )?(?:(?:real|actual|live|automated) )?"
        r"(?:person|human|robot|bot|machine|computer|recording|ai)\b"
        r"|\b(?:what's|what is) your name\b|\bwho (?:is this|are you|am i (?:talking|speaking) (?:to|with))\b",
    ),
    (
        Request.RECALL,
        r"\b(?:what|which) \w+ (?:did (?:you|i) (?:say|get|have|hear|book|write down)|do you have(?: for me)?)$"
        r"|\bdid you get (?:my|that|the|all)\b|\bread (?:it|that) back\b|\bwhat do you have so far\b",
    ),
    (
        Request.PERSON,
        rf"\b(?:speak|talk|put me through|transfer me|connect me)\b.{{0,20}}\b(?:{_PEOPLE})\b"
        r"|\b(?:real|actual|live) (?:person|human)\b|^(?:a )?(?:human|person|representative|operator)(?: please)?$",
    ),
    (
        Request.REPEAT,
        r"\b(say that again|repeat that|come again|what did you say|can you repeat|could you repeat"
        r"|i didn't (?:catch|hear|get|understand) (?:that|you)|what was that|once more|one more time)\b"
        r"|^(?:(?:pardon|pardon me|sorry|excuse me|what|repeat) ?)+$",
    ),
    (Request.NEVER_MIND, r"\b(never ?mind|forget (?:it|about it|that)|leave it|changed my mind)\b"),
    (
        Request.CAPABILITIES,
        r"\bwhat (?:can|do) you (?:do|help)|\bwhat (?:else )?do you (?:have|offer)$|\bhow can you help"
        r"|\bwhat are my options|^(?:(?:can you|i need|i need some) )?help(?: me)?(?: please)?$",
    ),
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
    (
        Request.HELLO,
        r"^(?:(?:um|uh|oh|yes|yeah) )*(?:hello|hi|hey|good (?:morning|afternoon|evening))(?: there| hello)*$"
        r"|\bis (?:anybody|anyone|somebody|someone) there\b|\bcan you hear me\b|^(?:hello )?are you (?:still )?there$",
    ),
    (
        Request.HOLD_ON,
        r"^(?:(?:um|uh|hm|hmm|oh|okay|ok|yes|yeah|please|sorry|just) )*(?:(?:hold|hang) on|wait|bear with me|"
        r"(?:give me )?(?:a|one|just a) (?:sec|second|minute|moment)|let me (?:think|see|check|look))"
        r"(?: (?:a|one|sec|second|minute|moment|please))*$",
    ),
]

CALLS_OFF = re.compile(r"\b(?:can't|cannot|can not|couldn't|won't|unable|not able|no longer able)\b", re.IGNORECASE)

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


_OPENERS = {
    *"and so but oh um uh okay ok hi hello hey well yes no wait actually sorry also thanks excuse me please".split()
}
"""What people say before they ask or tell something."""
_FREE_TIMES = r"\b(?:anything|available|availability|free|openings?|times|slots|earliest|soonest|anytime|whenever)\b"


def calls_off(heard: str) -> bool:
    """Return whether a caller says what is not possible: a day that is named then is not the one that is wished for."""
    return bool(CALLS_OFF.search(heard))


def split_question(heard: str) -> tuple[str, str]:
    """Return what an utterance tells and what it asks: `Thursday at three, how much is it?`. Either may be empty."""
    parts = re.split(r"(?<=[.!?,])\s+(?:and\s+)?|\s+and\s+(?=(?:what|how|where|when|do|is|are|can)\b)", heard)
    parts = [part.rstrip(",.!") for part in parts if set(words_of(part)) - _OPENERS]
    asked = [part for part in parts if is_question(part)]
    return ", ".join(part for part in parts if part not in asked), " ".join(asked)


def read_agreement(heard: str) -> bool | None:
    """Return whether what was said back is to be done. A yes with a `but` is a no; in a question it is neither."""
    agrees, text = read_yes_no(heard), " ".join(words_of(heard))
    if agrees and re.search(r"\b(?:but|wait|hold|instead|later|earlier|change|different|another)\b", text):
        return False
    if agrees and is_question(heard) and not re.search(r"\b(?:book|do|confirm|go ahead|why not)\b", text):
        return None
    return agrees


def refuses(heard: str) -> bool:
    """Return whether a caller will not, or cannot, answer what was asked."""
    return bool(re.search(r"\b(?:no|nope|don't|won't|can't|not|rather|skip)\b", " ".join(words_of(heard))))


def is_in_a_hurry(heard: str) -> bool:
    """Return whether any time would do if only it is soon."""
    return bool(re.search(r"\b(?:as soon as|asap|right away|first thing you have)\b", " ".join(words_of(heard))))


def asks_for_times(heard: str) -> bool:
    """Return whether an utterance asks which times are free, or leaves the choice to the agent."""
    return bool(re.search(_FREE_TIMES, " ".join(words_of(heard))))


def corrects(heard: str) -> bool:
    """Return whether a caller takes back something that was said before."""
    return bool(re.search(r"\b(?:instead|actually|meant|rather|sorry|make (?:it|that))\b", " ".join(words_of(heard))))


def read_request(heard: str) -> Request | None:
    """Return what of the above was asked, or None."""
    text = " ".join(words_of(heard))
    return next((request for request, pattern in _PHRASES if re.search(pattern, text)), None)


def is_question(heard: str) -> bool:
    """Return whether an utterance asks something."""
    words = words_of(heard)
    while words and words[0] in _OPENERS:
        words.pop(0)
    return heard.rstrip().endswith("?") or bool(words) and words[0] in _QUESTION_WORDS
