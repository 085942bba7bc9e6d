"""What a model is told about its part: the agent's prompt, how to speak, the business, and the facts."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from gpu_workers.cascade.brain.sentences import fill_sentence
from gpu_workers.cascade.brain.wording import GOODBYE
from gpu_workers.protocol import Start, ToolRun

STYLE = """You are on the telephone. Speak in one or two short sentences, in plain words.
Use no lists, no markup and no emoji.
Write dates, times, prices and numbers as they are spoken, telephone numbers digit by digit.
Ask for one thing at a time.
Never invent a fact, a price or a free time.
Before you book, change or cancel anything, say it back and wait for a yes."""


def instructions_of(start: Start, now: datetime.datetime) -> str:
    """Return the instructions of one call. `now`: the business's wall clock."""
    agent, business = start.agent, start.business
    facts = "\n".join(f"- {fact['question']} {fact['answer']}" for fact in agent.get("facts", []))
    return "\n\n".join(
        part
        for part in (
            agent.get("prompt", ""),
            STYLE,
            f"The business is {business.get('name', 'unknown')}. Its local time is {now:%A, %d %B %Y, %H:%M}. "
            "Tools take local times like 2026-11-24T15:30.",
            f"Facts you may tell:\n{facts}" if facts else "",
            f"Done already in this call, and not to be done again unasked: {_told(start.tools_run)}."
            if start.tools_run
            else "",
        )
        if part
    )


def _told(runs: Sequence[ToolRun]) -> str:
    return ", ".join(f"{run.name} ({'it worked' if run.ok else 'it failed'})" for run in runs)


def goodbye_of(start: Start, now: datetime.datetime) -> str:
    """Return the agent's last sentence."""
    business = {"business": start.business.get("name") or "us"}
    return fill_sentence(start.agent.get("goodbye") or GOODBYE, business, now)
