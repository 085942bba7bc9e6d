"""What was typed into the form, as a configuration. It is kept, right or wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from agents import engines
from agents.tools.declarations import DECLARATIONS


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
    model = _text(typed, "realtime.model")
    if "realtime" in before or (model and draft["engine"] == engines.OPENAI_REALTIME):
        draft["realtime"] = {**draft.get("realtime", {}), "model": model}
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
