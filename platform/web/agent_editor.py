"""The form of an agent's draft: a configuration as fields, and what was typed as a configuration.

A field is named by its path in the configuration (`intents.0.examples`), which is also how agents.catalog.problems_of
names what is wrong: each sentence finds the field it belongs to. What is typed is kept, right or wrong.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from agents.start import ANNOUNCEMENT
from agents.tools.declarations import DECLARATIONS

Problems = list[tuple[str, str]]

MANAGED_EARS = [("deepgram", "Deepgram, with your key")]
MANAGED_VOICES = [("elevenlabs", "ElevenLabs, with your key"), ("cartesia", "Cartesia, with your key")]
MODELS = [("own", "Its own model, if any"), ("pool", "A model on a pool of its own")]
PARTS = [("own", "Its own model"), ("kyutai", "Kyutai, on a pool of its own")]
ENGINES = [("cascade", "Cascade"), ("moshi", "Moshi")]
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
class Field:
    """One input. `kind`: line, text, lines (one value a line), choice, check."""

    path: str
    label: str
    value: Any = ""
    kind: str = "line"
    help: str = ""
    choices: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    rows: int = 3
    problems: list[str] = dataclasses.field(default_factory=list)
    is_optional: bool = False

    @property
    def id(self) -> str:
        return "id_" + self.path.replace(".", "_")


@dataclasses.dataclass(frozen=True)
class Row:
    """A repeated group of fields: a fact, an intent, a question. `more` come after `questions`."""

    path: str
    title: str
    fields: list[Field]
    questions: list[Row] = dataclasses.field(default_factory=list)
    new_question: Row | None = None
    more: list[Field] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def id(self) -> str:
        return "id_" + self.path.replace(".", "_")

    @property
    def is_open(self) -> bool:
        """Whether it is shown unfolded: something is to be written or mended in it."""
        return not self.title or self.has_problems

    @property
    def has_problems(self) -> bool:
        return bool(
            self.problems
            or any(field.problems for field in (*self.fields, *self.more))
            or any(question.has_problems for question in self.questions)
        )


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
    sorted_in = _Sorter(problems)
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
                help="Cascade hears, thinks and speaks. Moshi talks by itself: it follows no prompt, calls no tools.",
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
                "voice",
                "Voice",
                config.get("voice", ""),
                help="A voice of what speaks, such as heart; of a managed service, the voice's id there.",
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


class _Sorter:
    """Gives each problem to the field it is about: the one whose path is the longest beginning of the problem's."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._ids: dict[str, str] = {}

    def field(self, path: str, label: str, value: Any = "", **options: Any) -> Field:
        choices = options.get("choices", [])
        if choices and value and value not in dict(choices):
            # What is not to be chosen stays to be seen, until something else is.
            options["choices"] = [*choices, (value, value)]
        made = Field(path, label, value, problems=self._take(path), **options)
        self._ids[path] = made.id
        return made

    def of_row(self, path: str) -> list[str]:
        """Return what is wrong with a row as a whole."""
        self._ids[path] = "id_" + path.replace(".", "_")
        return [sentence for where, sentence in self._problems if where == path]

    def told(self) -> list[dict[str, str]]:
        return [{"id": self._id_of(where), "sentence": sentence} for where, sentence in self._problems]

    def _take(self, path: str) -> list[str]:
        return [sentence for where, sentence in self._problems if where == path or where.startswith(f"{path}.")]

    def _id_of(self, where: str) -> str:
        path = where
        while path and path not in self._ids:
            path = path.rpartition(".")[0]
        return self._ids.get(path, f"id_{where.partition('.')[0]}")


def _fact(sorted_in: _Sorter, path: str, fact: Mapping[str, Any]) -> Row:
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


def _intent(sorted_in: _Sorter, path: str, intent: Mapping[str, Any]) -> Row:
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


def _question(sorted_in: _Sorter, path: str, question: Mapping[str, Any]) -> Row:
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


# --- what was typed --------------------------------------------------------------------------------------------------
def read_draft(typed: Mapping[str, str], tools: Iterable[str], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that was typed. Rows with nothing in them are left out.

    Args:
        before: the draft until now, for what the form does not show.
    """
    draft = dict(before)
    for key in ("name", "engine", "voice", "greeting", "hand_off", "goodbye"):
        draft[key] = _text(typed, key)
    draft["prompt"] = typed.get("prompt", "").replace("\r\n", "\n").strip() + "\n" if _text(typed, "prompt") else ""
    draft["llm"] = {**draft.get("llm", {}), "enabled": "llm.enabled" in typed}
    if (source := _text(typed, "llm.source") or "own") != "own" or "source" in draft["llm"]:
        draft["llm"]["source"] = source
    if "llm" not in before and draft["llm"] == {"enabled": True}:
        del draft["llm"]
    for part in ("stt", "tts"):
        if (chosen_part := _text(typed, part)) != "own" or part in before:
            draft[part] = chosen_part or "own"
    recording: dict[str, Any] = {"enabled": "recording.enabled" in typed}
    if announcement := _text(typed, "recording.announcement"):
        recording["announcement"] = announcement
    if keep_days := _text(typed, "recording.keep_days"):
        recording["keep_days"] = _constant(keep_days, "integer")
    if "recording" in before or recording != {"enabled": False}:
        draft["recording"] = recording
    draft["facts"] = [fact for path in _rows(typed, "facts") if (fact := _read_fact(typed, path))]
    draft["intents"] = [intent for path in _rows(typed, "intents") if (intent := _read_intent(typed, path))]
    chosen = set(tools)
    draft["tools"] = [name for name in DECLARATIONS if name in chosen]
    return draft


def add_row(draft: dict[str, Any], path: str) -> None:
    """Add an empty row: `facts`, `intents`, or an intent's `intents.0.questions`."""
    match path.split("."):
        case ["facts"]:
            draft["facts"].append({"question": "", "answer": ""})
        case ["intents"]:
            draft["intents"].append({"name": "", "examples": []})
        case ["intents", place, "questions"] if place.isdigit() and int(place) < len(draft["intents"]):
            draft["intents"][int(place)].setdefault("questions", []).append({"name": "", "type": "text", "ask": ""})


def remove_row(draft: dict[str, Any], path: str) -> None:
    """Take a row away: `facts.0`, `intents.0` or `intents.0.questions.1`; nothing happens where there is none."""
    rows: Any = draft
    *way, last = path.split(".")
    for step in way:
        try:
            rows = rows[int(step)] if isinstance(rows, list) else rows.get(step, [])
        except (ValueError, IndexError, AttributeError):
            return
    if isinstance(rows, list) and last.isdigit() and int(last) < len(rows):
        del rows[int(last)]


def _rows(typed: Mapping[str, str], path: str) -> list[str]:
    form = re.compile(rf"^{re.escape(path)}\.(\d+)\.")
    numbers = {int(match[1]) for key in typed if (match := form.match(key))}
    return [f"{path}.{number}" for number in sorted(numbers)]


def _read_fact(typed: Mapping[str, str], path: str) -> dict[str, Any] | None:
    question, also, answer = (
        _text(typed, f"{path}.question"),
        _lines(typed, f"{path}.also"),
        _text(typed, f"{path}.answer"),
    )
    if not (question or also or answer):
        return None
    return {"question": question, **({"also": also} if also else {}), "answer": answer}


def _read_intent(typed: Mapping[str, str], path: str) -> dict[str, Any] | None:
    intent: dict[str, Any] = {"name": _text(typed, f"{path}.name"), "examples": _lines(typed, f"{path}.examples")}
    questions = [
        question
        for question_path in _rows(typed, f"{path}.questions")
        if (question := _read_question(typed, question_path))
    ]
    tool = _text(typed, f"{path}.tool")
    more = {
        "questions": questions,
        "confirm": _text(typed, f"{path}.confirm"),
        "tool": tool,
        "arguments": _assignments(_lines(typed, f"{path}.arguments"), tool),
        "done": _text(typed, f"{path}.done"),
        "failed": _text(typed, f"{path}.failed"),
    }
    intent |= {key: value for key, value in more.items() if value}
    return intent if any(intent.values()) else None


def _read_question(typed: Mapping[str, str], path: str) -> dict[str, Any] | None:
    question: dict[str, Any] = {
        "name": _text(typed, f"{path}.name"),
        "type": _text(typed, f"{path}.type"),
        "ask": _text(typed, f"{path}.ask"),
    }
    if choices := _lines(typed, f"{path}.choices"):
        question["choices"] = choices
    if from_hour := _text(typed, f"{path}.from_hour"):
        question["from_hour"] = _constant(from_hour, "integer")
    if f"{path}.optional" in typed:
        question["optional"] = True
    return question if question["name"] or question["ask"] or choices else None


def _text(typed: Mapping[str, str], key: str) -> str:
    return typed.get(key, "").replace("\r\n", "\n").strip()


def _lines(typed: Mapping[str, str], key: str) -> list[str]:
    return [line.strip() for line in typed.get(key, "").splitlines() if line.strip()]


def _as_lines(values: Iterable[str]) -> str:
    return "\n".join(values)


def _as_assignments(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {_spelled(value)}" for name, value in values.items())


def _spelled(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _assignments(lines: list[str], tool: str) -> dict[str, Any]:
    parameters = DECLARATIONS.get(tool, {}).get("parameters", {}).get("properties", {})
    pairs = [line.partition("=") for line in lines]
    return {
        name.strip(): _constant(value.strip(), parameters.get(name.strip(), {}).get("type")) for name, _, value in pairs
    }


def _constant(value: str, kind: str | None) -> Any:
    """Return a constant in the type that the tool takes; what cannot be read stays as it was typed."""
    if kind == "boolean" and value in ("yes", "no"):
        return value == "yes"
    if kind in ("integer", "number"):
        try:
            return int(value) if kind == "integer" else float(value)
        except ValueError:
            return value
    return value
