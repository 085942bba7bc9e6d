"""The catalogue: ready agents as files, one folder a vertical, one file a template."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from agents.tools.declarations import DECLARATIONS

FOLDER = Path(__file__).parent
SCHEMA = json.loads((FOLDER / "schema.json").read_text())
VERTICALS = {
    "healthcare": "Healthcare",
    "real_estate": "Real estate",
    "salon": "Salon",
    "hospitality": "Hospitality",
    "home_services": "Home services",
    "sales_support": "Sales & support",
}
TEMPLATE_KEYS = ("slug", "vertical", "summary", "scenarios", "services", "opening_hours")
"""What a template file holds besides the configuration that an agent starts with."""

_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
_SLOT = re.compile(r"\{(\w+)\}")
# Filled by the platform or by a tool's answer rather than by a question.
_KNOWN_SLOTS = frozenset({"business", "error", "service", "starts_at", "name", "phone", "before", "price"})


class CatalogError(Exception):
    """A template file is not of its form. The sentence names the file and what is wrong."""


@dataclasses.dataclass(frozen=True)
class AgentTemplate:
    """A ready agent. `config` is the draft that an agent made from it starts with."""

    slug: str
    vertical: str
    name: str
    summary: str
    config: dict[str, Any]
    scenarios: list[dict[str, Any]]
    services: list[dict[str, Any]]
    opening_hours: dict[str, list[str]]


def problems_of(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (path, sentence) of all that is wrong with a configuration; an empty list for a good one."""
    found = [
        (".".join(str(part) for part in problem.absolute_path), _sentence(problem))
        for problem in sorted(_VALIDATOR.iter_errors(config), key=lambda each: [str(part) for part in each.path])
    ]
    return found or list(_cross_checks(config))


def _sentence(problem: jsonschema.ValidationError) -> str:
    match problem.validator:
        case "required":
            missing = next(name for name in problem.validator_value if name not in problem.instance)
            return f"“{missing}” is missing."
        case "additionalProperties":
            return f"There is something here that does not belong: {problem.message}."
        case "minLength":
            return "This must not be empty."
        case "maxLength":
            return f"This must be at most {problem.validator_value} characters long."
        case "enum":
            return f"This must be one of {', '.join(map(str, problem.validator_value))}."
        case "minItems":
            return "At least one is needed."
        case "type":
            return f"This must be of type {problem.validator_value}."
    return f"{problem.message}."


def _cross_checks(config: dict[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for position, name in enumerate(config["tools"]):
        if name not in DECLARATIONS:
            found.append((f"tools.{position}", f"There is no tool “{name}”."))
    names: set[str] = set()
    for position, intent in enumerate(config["intents"]):
        here = f"intents.{position}"
        if intent["name"] in names:
            found.append((here, f"There are two intents named “{intent['name']}”."))
        names.add(intent["name"])
        questions = [question["name"] for question in intent.get("questions", [])]
        if len(set(questions)) < len(questions):
            found.append((f"{here}.questions", "Two questions have the same name."))
        if (tool := intent.get("tool")) and tool not in config["tools"]:
            found.append((f"{here}.tool", f"“{tool}” is not among the agent's tools."))
        found += _unknown_slots(here, intent, set(questions))
        found += _argument_problems(here, intent)
    return found


def _unknown_slots(here: str, intent: dict[str, Any], questions: set[str]) -> list[tuple[str, str]]:
    sentences = {key: intent[key] for key in ("confirm", "done", "failed") if key in intent}
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


def read_template(path: Path) -> AgentTemplate:
    """Return the template in a file.

    Raises:
        CatalogError: it cannot be read, or is not of its form.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise CatalogError(f"{path}: it cannot be read: {problem}") from problem
    if not isinstance(document, dict):
        raise CatalogError(f"{path}: it must be a mapping of keys to values.")
    for key in ("slug", "vertical", "summary", "scenarios"):
        if key not in document:
            raise CatalogError(f"{path}: “{key}” is missing.")
    if problems := problems_of(document):
        where, sentence = problems[0]
        raise CatalogError(f"{path}: {where or 'top level'}: {sentence}")
    if document["vertical"] != path.parent.name:
        raise CatalogError(f"{path}: it says vertical “{document['vertical']}” but lies in “{path.parent.name}”.")
    return AgentTemplate(
        slug=document["slug"],
        vertical=document["vertical"],
        name=document["name"],
        summary=document["summary"],
        config={key: value for key, value in document.items() if key not in TEMPLATE_KEYS},
        scenarios=document["scenarios"],
        services=document.get("services", []),
        opening_hours=document.get("opening_hours", {}),
    )


@functools.cache
def all_templates() -> tuple[AgentTemplate, ...]:
    """Return every template, by vertical and name.

    Raises:
        CatalogError: a file is not of its form, or two share a slug.
    """
    return read_catalog(FOLDER)


def read_catalog(folder: Path) -> tuple[AgentTemplate, ...]:
    found: dict[str, AgentTemplate] = {}
    for path in sorted(folder.glob("*/*.yaml")):
        template = read_template(path)
        if template.slug in found:
            raise CatalogError(f"{path}: the slug “{template.slug}” is taken by another template.")
        found[template.slug] = template
    order = list(VERTICALS)
    return tuple(sorted(found.values(), key=lambda each: (order.index(each.vertical), each.name)))


def templates_by_slug() -> dict[str, AgentTemplate]:
    return {template.slug: template for template in all_templates()}
