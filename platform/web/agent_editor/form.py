"""A configuration as a form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from agents import engines
from agents.start import ANNOUNCEMENT
from agents.tools.declarations import DECLARATIONS
from web.agent_editor.fields import Field, Problems, Row, Sorter

MANAGED_EARS = [("deepgram", "Deepgram, with your key")]
MANAGED_VOICES = [("elevenlabs", "ElevenLabs, with your key"), ("cartesia", "Cartesia, with your key")]
MODELS = [("own", "Its own model, if any"), ("pool", "A model on a pool of its own")]
PARTS = [("own", "Its own model"), ("kyutai", "Kyutai, on a pool of its own")]
ENGINES = list(engines.NAMES.items())
QUESTION_TYPES = [
    ("choice", "One of several"),
    ("datetime", "Date and time"),
    ("date", "Date"),
    ("time", "Time"),
    ("name", "Name"),
    ("phone", "Telephone number"),
    ("email", "E-mail address"),
    ("number", "Number"),
    ("text", "Anything said"),
    ("yes_no", "Yes or no"),
]
NEW_ROW = "__row__"
"""Stands for the number of a row that the page has yet to add."""
NEW_QUESTION = "__question__"


@dataclasses.dataclass(frozen=True)
class Editor:
    basics: list[Field]
    words: list[Field]
    recording: list[Field]
    facts: list[Row]
    new_fact: Row
    intents: list[Row]
    new_intent: Row
    tools: list[dict[str, Any]]
    problems: list[dict[str, str]]
    """All that is wrong, each with the id of the field it belongs to."""


def make_editor(draft: Mapping[str, Any], problems: Problems) -> Editor:
    """Return the form of a draft, with what is wrong beside its fields."""
    sorted_in = Sorter(problems)
    config = {"facts": [], "intents": [], "tools": [], **draft}
    editor = Editor(
        basics=[
            sorted_in.field("name", "Name", config.get("name", "")),
            sorted_in.field(
                "engine",
                "Engine",
                config.get("engine", ""),
                kind="choice",
                choices=ENGINES,
                help="Moshi follows no prompt and calls no tools. OpenAI Realtime needs a key of yours: see Services.",
            ),
            sorted_in.field(
                "voice",
                "Voice",
                config.get("voice", ""),
                help="Such as heart; of OpenAI Realtime, such as marin; of another service, the voice's id there.",
                suggestions=("heart", *engines.OPENAI_REALTIME_VOICES),
            ),
            sorted_in.field(
                "stt",
                "What hears",
                config.get("stt", "own"),
                kind="choice",
                choices=[*PARTS, *MANAGED_EARS],
                help="Of the cascade. What cannot be had is replaced by its own model.",
            ),
            sorted_in.field(
                "tts",
                "What speaks",
                config.get("tts", "own"),
                kind="choice",
                choices=[*PARTS, *MANAGED_VOICES],
                help="A managed service needs a key of yours: see Services.",
            ),
            sorted_in.field(
                "llm.source",
                "What thinks",
                config.get("llm", {}).get("source", "own"),
                kind="choice",
                choices=MODELS,
                help="Without a language model, and when it is late, the agent follows the questions below.",
            ),
            sorted_in.field(
                "realtime.model",
                "OpenAI's model",
                config.get("realtime", {}).get("model", engines.OPENAI_REALTIME_MODELS[0]),
                kind="choice",
                choices=[(model, model) for model in engines.OPENAI_REALTIME_MODELS],
                help="Of OpenAI Realtime. Where the service cannot be had, the cascade talks by itself.",
            ),
            sorted_in.field(
                "llm.enabled",
                "Use a language model where there is one",
                config.get("llm", {}).get("enabled", True),
                kind="check",
            ),
        ],
        words=[
            sorted_in.field(
                "greeting",
                "Greeting",
                config.get("greeting", ""),
                kind="text",
                rows=2,
                help="The first words. {business} is the name of your business.",
            ),
            sorted_in.field(
                "hand_off",
                "When it cannot help",
                config.get("hand_off", ""),
                kind="text",
                rows=2,
                help="Said before a person takes over.",
            ),
            sorted_in.field("goodbye", "Goodbye", config.get("goodbye", ""), kind="text", rows=2),
            sorted_in.field(
                "prompt",
                "Prompt",
                config.get("prompt", ""),
                kind="text",
                rows=9,
                help="What a language model is told about its part.",
            ),
        ],
        recording=[
            sorted_in.field(
                "recording.enabled", "Record calls", config.get("recording", {}).get("enabled", False), kind="check"
            ),
            sorted_in.field(
                "recording.announcement",
                "Announcement",
                config.get("recording", {}).get("announcement", ""),
                is_optional=True,
                help=f"Said before the greeting. “{ANNOUNCEMENT}” where it is empty.",
            ),
            sorted_in.field(
                "recording.keep_days",
                "Days to keep them",
                config.get("recording", {}).get("keep_days", ""),
                is_optional=True,
                help="As long as your plan keeps calls where it is empty, and never longer.",
            ),
        ],
        facts=[_fact(sorted_in, f"facts.{place}", fact) for place, fact in enumerate(config["facts"])],
        new_fact=_fact(sorted_in, f"facts.{NEW_ROW}", {}),
        intents=[_intent(sorted_in, f"intents.{place}", intent) for place, intent in enumerate(config["intents"])],
        new_intent=_intent(sorted_in, f"intents.{NEW_ROW}", {}),
        tools=[
            {"name": name, "description": declared["description"], "is_chosen": name in config["tools"]}
            for name, declared in DECLARATIONS.items()
        ],
        problems=[],
    )
    return dataclasses.replace(editor, problems=sorted_in.told())


def _fact(sorted_in: Sorter, path: str, fact: Mapping[str, Any]) -> Row:
    return Row(
        path=path,
        title=fact.get("question", ""),
        problems=sorted_in.of_row(path),
        fields=[
            sorted_in.field(f"{path}.question", "Question", fact.get("question", "")),
            sorted_in.field(
                f"{path}.also",
                "Also asked as",
                _as_lines(fact.get("also", [])),
                kind="lines",
                rows=2,
                help="One a line.",
                is_optional=True,
            ),
            sorted_in.field(f"{path}.answer", "Answer", fact.get("answer", ""), kind="text", rows=2),
        ],
    )


def _intent(sorted_in: Sorter, path: str, intent: Mapping[str, Any]) -> Row:
    tools = [("", "No tool"), *((name, name.replace("_", " ")) for name in DECLARATIONS)]
    questions = enumerate(intent.get("questions", []))
    return Row(
        path=path,
        title=intent.get("name", ""),
        problems=sorted_in.of_row(path),
        fields=[
            sorted_in.field(f"{path}.name", "Name", intent.get("name", ""), help="One word, like book."),
            sorted_in.field(
                f"{path}.examples",
                "What callers say",
                _as_lines(intent.get("examples", [])),
                kind="lines",
                rows=4,
                help="One example a line; more of them are understood better.",
            ),
        ],
        questions=[_question(sorted_in, f"{path}.questions.{place}", question) for place, question in questions],
        new_question=_question(sorted_in, f"{path}.questions.{NEW_QUESTION}", {}),
        more=[
            sorted_in.field(
                f"{path}.confirm",
                "Before it acts",
                intent.get("confirm", ""),
                kind="text",
                rows=2,
                is_optional=True,
                help="A question for yes or no; {name} is filled with the answer to the question of that name.",
            ),
            sorted_in.field(
                f"{path}.tool", "Tool", intent.get("tool", ""), kind="choice", choices=tools, is_optional=True
            ),
            sorted_in.field(
                f"{path}.arguments",
                "The tool is given",
                _as_assignments(intent.get("arguments", {})),
                kind="lines",
                help="One a line, like phone = {phone}. Empty: every answer under its own name.",
                is_optional=True,
            ),
            sorted_in.field(
                f"{path}.done", "When it worked", intent.get("done", ""), kind="text", rows=2, is_optional=True
            ),
            sorted_in.field(
                f"{path}.failed",
                "When it did not",
                intent.get("failed", ""),
                kind="text",
                rows=2,
                is_optional=True,
                help="{error} is what the tool said.",
            ),
        ],
    )


def _question(sorted_in: Sorter, path: str, question: Mapping[str, Any]) -> Row:
    return Row(
        path=path,
        title=question.get("name", ""),
        problems=sorted_in.of_row(path),
        fields=[
            sorted_in.field(f"{path}.name", "Name", question.get("name", "")),
            sorted_in.field(f"{path}.type", "Kind", question.get("type", ""), kind="choice", choices=QUESTION_TYPES),
            sorted_in.field(f"{path}.ask", "Ask", question.get("ask", "")),
            sorted_in.field(
                f"{path}.choices",
                "Choices",
                _as_lines(question.get("choices", [])),
                kind="lines",
                rows=2,
                help="One a line, for one of several.",
                is_optional=True,
            ),
            sorted_in.field(
                f"{path}.from_hour",
                "Earliest hour",
                question.get("from_hour", ""),
                is_optional=True,
                help="For times: “at nine” lies at or after this hour. 8 where it is empty.",
            ),
            sorted_in.field(
                f"{path}.optional", "May stay unanswered", bool(question.get("optional", False)), kind="check"
            ),
        ],
    )


def _as_lines(values: Iterable[str]) -> str:
    return "\n".join(values)


def _as_assignments(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {_spelled(value)}" for name, value in values.items())


def _spelled(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
