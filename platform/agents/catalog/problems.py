"""What can be wrong with a configuration or a template: the schema's demands, and what it cannot say."""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema

from agents.engines import OPENAI_REALTIME, OPENAI_REALTIME_VOICES
from agents.tools.declarations import DECLARATIONS

SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text())

_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
_SLOT = re.compile(r"\{(\w+)\}")
_KINDS = {
    "object": "a mapping of keys to values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "yes or no",
}
_FORMS = {
    "^[a-z][a-z0-9_]*$": "small letters, digits and underscores, a letter first",
    "^[a-z][a-z0-9-]*$": "small letters, digits and hyphens, a letter first",
    "^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$": "two times like 09:00-17:30",
}
# Filled by the platform or by a tool's answer rather than by a question.
_KNOWN_SLOTS = frozenset({"business", "error", "service", "starts_at", "name", "phone", "before", "price"})


def problems_of(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (path, sentence) of all that is wrong with a configuration; an empty list for a good one."""
    found = [
        (".".join(str(part) for part in problem.absolute_path), _sentence(problem))
        for problem in sorted(_VALIDATOR.iter_errors(config), key=lambda each: [str(part) for part in each.path])
    ]
    return found or list(_cross_checks(config))


def _sentence(problem: jsonschema.ValidationError) -> str:
    wanted, given = problem.validator_value, problem.instance
    match problem.validator:
        case "required":
            # One error for each that is missing; only its message says which.
            missing = problem.message.rpartition(" is a required property")[0].strip("'")
            return f"“{missing}” is missing."
        case "additionalProperties":
            strangers = [key for key in given if key not in problem.schema.get("properties", {})]
            return f"“{strangers[0]}” does not belong here."
        case "minLength":
            return "This must not be empty."
        case "maxLength":
            return f"This must be at most {wanted} characters long."
        case "enum":
            return f"This must be one of {', '.join(map(str, wanted))}."
        case "minItems":
            return "At least one is needed."
        case "maxItems":
            return f"There may be at most {wanted}."
        case "uniqueItems":
            return "The same stands here twice."
        case "minimum":
            return f"This must be {wanted} or more."
        case "maximum":
            return f"This must be {wanted} or less."
        case "pattern":
            return f"“{given}” is not of the form that is needed here: {_FORMS.get(wanted, wanted)}."
        case "type":
            return f"This must be {_kinds(wanted)}."
    return f"{problem.message}."


def _kinds(wanted: str | list[str]) -> str:
    return " or ".join(_KINDS.get(kind, kind) for kind in ([wanted] if isinstance(wanted, str) else wanted))


def _cross_checks(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for position, name in enumerate(config["tools"]):
        if name not in DECLARATIONS:
            yield f"tools.{position}", f"There is no tool “{name}”."
    if config["engine"] == OPENAI_REALTIME and config["voice"] not in OPENAI_REALTIME_VOICES:
        yield "voice", f"OpenAI Realtime speaks with one of {', '.join(OPENAI_REALTIME_VOICES)}."
    for place, name in _repeated("intents", (intent["name"] for intent in config["intents"])):
        yield place, f"There are two intents named “{name}”."
    for place, question in _repeated("facts", (fact["question"] for fact in config["facts"])):
        yield place, f"“{question}” is answered twice."
    if config.get("recording", {}).get("enabled") and config["engine"] == "moshi":
        yield (
            "recording.enabled",
            "Moshi cannot tell callers that it records: choose the cascade, or do without.",
        )
    for place, sentence in _plain_sentences(config):
        if unknown := set(_SLOT.findall(sentence)) - {"business"}:
            yield place, f"Nothing fills “{{{min(unknown)}}}” here."
    for position, intent in enumerate(config["intents"]):
        yield from _intent_problems(f"intents.{position}", intent, config["tools"])


def _repeated(here: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the place and the name of each that stood earlier already."""
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name.casefold() in seen:
            yield f"{here}.{position}", name
        seen.add(name.casefold())


def _plain_sentences(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the sentences that are said outside of any intent: only the business's name is known there."""
    for key in ("greeting", "hand_off", "goodbye"):
        yield key, config[key]
    if announcement := config.get("recording", {}).get("announcement"):
        yield "recording.announcement", announcement
    for position, fact in enumerate(config["facts"]):
        yield f"facts.{position}.answer", fact["answer"]


def _intent_problems(here: str, intent: dict[str, Any], tools: list[str]) -> Iterator[tuple[str, str]]:
    questions = [question["name"] for question in intent.get("questions", [])]
    if any(_repeated("", questions)):
        yield f"{here}.questions", "Two questions have the same name."
    if (tool := intent.get("tool")) and tool not in tools:
        yield f"{here}.tool", f"“{tool}” is not among the agent's tools."
    yield from _unknown_slots(here, intent, set(questions))
    yield from _argument_problems(here, intent)


def _unknown_slots(here: str, intent: dict[str, Any], questions: set[str]) -> list[tuple[str, str]]:
    sentences: dict[str, str] = {key: intent[key] for key in ("confirm", "done", "failed") if key in intent}
    sentences |= {f"arguments.{name}": str(value) for name, value in intent.get("arguments", {}).items()}
    return [
        (f"{here}.{key}", f"No question fills “{{{slot}}}”.")
        for key, sentence in sentences.items()
        for slot in _SLOT.findall(sentence)
        if slot not in questions | (_KNOWN_SLOTS if not key.startswith("arguments") else set())
    ]


def _argument_problems(here: str, intent: dict[str, Any]) -> list[tuple[str, str]]:
    declaration = DECLARATIONS.get(intent.get("tool", ""))
    if declaration is None:
        return []
    parameters = declaration["parameters"]
    given = set(intent.get("arguments") or {question["name"] for question in intent.get("questions", [])})
    found = [
        (f"{here}.arguments", f"The tool {intent['tool']} takes no “{name}”.")
        for name in sorted(given - set(parameters["properties"]))
        if intent.get("arguments")
    ]
    missing = sorted(set(parameters["required"]) - given)
    return found + [(f"{here}.arguments", f"The tool {intent['tool']} needs “{name}”.") for name in missing]


def problems_of_template(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (path, sentence) of all that is wrong with a template file: its configuration, and what is around it."""
    return problems_of(document) or list(_template_problems(document))


def _template_problems(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    services = [service["name"] for service in document.get("services", [])]
    for place, name in _repeated("services", services):
        yield place, f"There are two services named “{name}”."
    for place, name in _repeated("scenarios", (scenario["name"] for scenario in document["scenarios"])):
        yield place, f"There are two scenarios named “{name}”."
    for weekday, stretches in document.get("opening_hours", {}).items():
        if sentence := _hours_problem(stretches):
            yield f"opening_hours.{weekday}", sentence
    for position, intent in enumerate(document["intents"]):
        if intent.get("tool") == "book_appointment":
            yield from _unknown_services(f"intents.{position}", intent, services)
    for position, scenario in enumerate(document["scenarios"]):
        expected = [turn.get("expect", {}).get("tool") for turn in scenario["turns"]]
        for name in filter(None, [*expected, *scenario.get("expect", {}).get("tools", [])]):
            if name not in document["tools"]:
                yield f"scenarios.{position}", f"It expects “{name}”, which is not among the agent's tools."


def _hours_problem(stretches: list[str]) -> str | None:
    try:
        read = sorted(read_stretch(stretch) for stretch in stretches)
    except ValueError:
        return "There is a time here that no clock shows."
    if any(closes <= opens for opens, closes in read):
        return "It cannot close before it opens."
    if any(after[0] < before[1] for before, after in itertools.pairwise(read)):
        return "Two stretches overlap."
    return None


def read_stretch(stretch: str) -> tuple[datetime.time, datetime.time]:
    """Return when a stretch of opening hours like 09:00-17:30 begins and ends.

    Raises:
        ValueError: it is not two times of day.
    """
    opens, closes = stretch.split("-")
    return datetime.time.fromisoformat(opens), datetime.time.fromisoformat(closes)


def _unknown_services(here: str, intent: dict[str, Any], services: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the services that an intent offers and the calendar of a fresh tenant would not know."""
    argument = str(intent.get("arguments", {}).get("service", "{service}"))
    slots = _SLOT.findall(argument)
    offered = (
        [argument]
        if not slots
        else [
            choice
            for question in intent.get("questions", [])
            if question["name"] in slots
            for choice in question.get("choices", [])
        ]
    )
    for name in offered:
        if name.casefold() not in {service.casefold() for service in services}:
            yield here, f"“{name}” can be booked but is not among the services."
