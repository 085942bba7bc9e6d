"""What the form of an agent's draft is made of: fields, rows of them, and what is wrong beside each.

A field is named by its path in the configuration (`intents.0.examples`), which is also how agents.catalog.problems_of
names what is wrong: each sentence finds the field it belongs to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

Problems = list[tuple[str, str]]


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
    suggestions: Sequence[str] = ()
    """Of a line: what may be typed, and is offered; anything else may be, too."""
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


class Sorter:
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
