"""Sentences that an agent says where its configuration gives none, and what it can do, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gpu_workers.cascade.brain import speaking
from gpu_workers.cascade.brain.task import Intent

ANYTHING_ELSE = "Is there anything else I can help you with?"
GREETING = "Hello. How can I help you?"
GOODBYE = "Thank you for calling. Goodbye."
LOST_THREAD = "I am sorry, I lost my thread. Could you say that again?"
PUTTING_THROUGH = "I will put you through to somebody now. One moment, please."
WHO_I_AM = "the automatic assistant of {business}, not a person, but I can help you with most things"
HAND_OFF = "I will ask somebody to call you back."
NOBODY_THERE = "I am sorry, I can't help you with that, and I can't reach anybody from here."

_WISHES = {
    "book": "book an appointment",
    "reschedule": "move one",
    "cancel": "cancel one",
    "message": "take a message",
}
"""What the catalogue's intents are called in speech. Others are called by their names: `book_a_table`."""
_WISH_IN_GREETING = re.compile(r"\bwould you like to ((?:(?! or )[^?.])+)\?$", re.IGNORECASE)


def capabilities(intents: Sequence[Intent], *, has_facts: bool) -> str:
    """Return what an agent can do: `book a table, take a message, or answer questions`."""
    can = [_WISHES.get(each["name"], each["name"].replace("_", " ")) for each in intents if each.get("tool")]
    return speaking.join_options([*can, "answer questions"] if has_facts else can) or "take a message"


def wish_in_greeting(agent: dict[str, Any]) -> str:
    """Return the wish that a greeting asks for with a yes-or-no question: `would you like to book a table?`."""
    found = _WISH_IN_GREETING.search(agent.get("greeting") or "")
    return f"I'd like to {found[1]}" if found else ""


def hand_off_intent(agent: dict[str, Any], *, puts_through: bool = False) -> Intent:
    """Return the intent that every agent has: a person is to call back, or to take over at once."""
    if puts_through:
        return {**hand_off_intent(agent), "questions": [], "arguments": {"reason": "{reason}"}}
    return {
        "name": "hand_off",
        "examples": ["I want to speak to a person", "Can I talk to somebody?", "Please have somebody call me back"],
        "questions": [
            {"name": "name", "type": "name", "ask": "I will have somebody call you back. What is your name, please?"},
            {"name": "phone", "type": "phone", "ask": "And which number can they reach you on?"},
        ],
        "tool": "hand_off",
        "arguments": {"reason": "{reason}", "name": "{name}", "phone": "{phone}"},
        "done": agent.get("hand_off") or HAND_OFF,
    }
