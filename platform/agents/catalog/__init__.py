"""The catalogue: ready agents as files, one folder a vertical, one file a template."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import yaml

from agents.catalog.problems import problems_of, problems_of_template, read_stretch

__all__ = [
    "VERTICALS",
    "AgentTemplate",
    "CatalogError",
    "all_templates",
    "problems_of",
    "read_catalog",
    "read_stretch",
    "read_template",
    "templates_by_slug",
]

FOLDER = Path(__file__).parent
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


class _OneOfEach(yaml.SafeLoader):
    """YAML in which a key stands once: plain YAML would keep the last and lose the others without a word."""

    def construct_mapping(self, node: yaml.MappingNode, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                sentence = f"the key “{key.value}” stands twice"
                raise yaml.constructor.ConstructorError(None, None, sentence, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, *args, **kwargs)


def read_template(path: Path) -> AgentTemplate:
    """Return the template in a file.

    Raises:
        CatalogError: it cannot be read, or is not of its form.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _OneOfEach)
    except OSError as problem:
        raise CatalogError(f"{path}: it cannot be read: {problem.strerror}.") from problem
    except UnicodeDecodeError as problem:
        raise CatalogError(f"{path}: it is not text in UTF-8.") from problem
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise CatalogError(f"{path}: line {line} is not YAML as it is needed here: {problem.problem}.") from problem
    except yaml.YAMLError as problem:
        raise CatalogError(f"{path}: it is not YAML: {' '.join(str(problem).split())}.") from problem
    if not isinstance(document, dict):
        raise CatalogError(f"{path}: it must be a mapping of keys to values.")
    for key in ("slug", "vertical", "summary", "scenarios"):
        if key not in document:
            raise CatalogError(f"{path}: “{key}” is missing.")
    if problems := problems_of_template(document):
        where, sentence = problems[0]
        raise CatalogError(f"{path}: {where}: {sentence}" if where else f"{path}: {sentence}")
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
    """Return the templates in a folder's folders, one a vertical. Raises as all_templates does."""
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
