"""The tools that agents run. To add one: declare it in declarations.py, write its function, name it in TOOLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema

from agents.tools import leaving_word, scheduling
from agents.tools.contract import ToolContext, ToolRefused, ToolResult
from agents.tools.declarations import DECLARATIONS

__all__ = ["TOOLS", "ToolContext", "ToolResult", "run_tool"]

Run = Callable[[dict[str, Any], ToolContext], dict[str, Any]]

TOOLS: dict[str, Run] = {
    "check_availability": scheduling.check_availability,
    "book_appointment": scheduling.book_appointment,
    "find_appointments": scheduling.find_appointments,
    "reschedule_appointment": scheduling.reschedule_appointment,
    "cancel_appointment": scheduling.cancel_appointment,
    "save_contact": leaving_word.save_contact,
    "take_message": leaving_word.take_message,
    "hand_off": leaving_word.hand_off,
}

_VALIDATORS = {
    name: jsonschema.Draft202012Validator(
        declaration["parameters"], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for name, declaration in DECLARATIONS.items()
}


def run_tool(name: str, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
    """Run a tool with checked arguments, in the entered tenant. What it refuses is a result, not an exception."""
    if name not in TOOLS:
        return ToolResult(ok=False, error_code="unknown_tool", error_sentence=f"There is no tool {name}.")
    problem = next(iter(sorted(_VALIDATORS[name].iter_errors(arguments), key=lambda each: list(each.path))), None)
    if problem is not None:
        return _invalid(problem)
    # PostgreSQL keeps no text with this character.
    arguments = {key: value.replace("\0", "") if isinstance(value, str) else value for key, value in arguments.items()}
    try:
        return ToolResult(ok=True, result=TOOLS[name](arguments, context))
    except ToolRefused as refusal:
        return ToolResult(
            ok=False,
            result=refusal.result,
            error_code=refusal.code,
            error_sentence=refusal.sentence,
            error_slot=refusal.slot,
        )


def _invalid(problem: jsonschema.ValidationError) -> ToolResult:
    if problem.validator == "required":
        missing = next(name for name in problem.validator_value if name not in problem.instance)
        return ToolResult(
            ok=False, error_code="missing", error_sentence=f"I still need the {_spoken(missing)}.", error_slot=missing
        )
    slot = str(problem.path[0]) if problem.path else None
    sentence = f"I did not get the {_spoken(slot)} right." if slot else "Something in that request does not fit."
    return ToolResult(ok=False, error_code="invalid", error_sentence=sentence, error_slot=slot)


def _spoken(slot: str) -> str:
    return {"starts_at": "date and time", "phone": "telephone number", "email": "e-mail address"}.get(
        slot, slot.replace("_", " ")
    )
