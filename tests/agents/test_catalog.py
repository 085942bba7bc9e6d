"""The templates of the catalogue are good, and a bad file is told in a sentence that names it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agents.catalog import (
    FOLDER,
    VERTICALS,
    AgentTemplate,
    CatalogError,
    all_templates,
    problems_of,
    read_catalog,
    read_template,
    templates_by_slug,
)
from agents.checks import the_catalogue_is_of_its_form
from agents.start import agent_document
from tests.agents.factories import CONFIG, TEMPLATE, changed, write_template

TEMPLATES = [pytest.param(template, id=template.slug) for template in all_templates()]
UNSPEAKABLE = re.compile(r"[0-9$%&*#@/\\<>|_\[\]•\n]|\w\.\w")
"""What a voice reads wrongly, or a listener cannot follow: figures, signs, lists."""


def spoken_sentences(config: dict[str, Any]) -> list[str]:
    sentences = [config["greeting"], config["hand_off"], config["goodbye"]]
    sentences += [fact["answer"] for fact in config["facts"]]
    for intent in config["intents"]:
        sentences += [question["ask"] for question in intent.get("questions", [])]
        sentences += [intent[key] for key in ("confirm", "done", "failed") if key in intent]
    return [re.sub(r"\{\w+\}", "something", sentence) for sentence in sentences]


def test_every_vertical_has_a_template() -> None:
    assert {template.vertical for template in all_templates()} == set(VERTICALS)


def test_every_file_of_the_catalogue_is_read() -> None:
    assert len(all_templates()) == len([path for path in FOLDER.rglob("*.y*ml")])


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_says_enough_to_be_useful(template: AgentTemplate) -> None:
    config = template.config
    assert len(config["facts"]) >= 8
    assert all(len(fact.get("also", [])) >= 1 for fact in config["facts"])
    assert len(config["intents"]) >= 3
    assert all(len(intent["examples"]) >= 4 for intent in config["intents"])
    assert template.services and template.opening_hours
    assert "{business}" in config["greeting"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_speaks_in_sentences_that_a_voice_can_say(template: AgentTemplate) -> None:
    for sentence in spoken_sentences(template.config):
        assert not UNSPEAKABLE.search(sentence), sentence
        assert len(sentence) <= 200, sentence
        assert sentence == "something" or sentence[-1] in ".?!", sentence


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_example_is_given_to_two_intents(template: AgentTemplate) -> None:
    examples = [example.casefold() for intent in template.config["intents"] for example in intent["examples"]]
    assert sorted(set(examples)) == sorted(examples)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_can_start_a_call(template: AgentTemplate) -> None:
    document = agent_document(template.config, business_name="Acme")
    assert "Acme" in document["greeting"]
    assert [tool["name"] for tool in document["tools"]] == template.config["tools"]
    assert all(tool["description"] and tool["parameters"]["type"] == "object" for tool in document["tools"])


def test_the_business_is_named_everywhere_and_slots_are_left_to_the_conversation() -> None:
    config = changed(CONFIG, "facts.0.answer", "{business} is always open.")
    document = agent_document(config, business_name="Acme")
    assert document["facts"][0]["answer"] == "Acme is always open."
    assert document["intents"][0]["confirm"] == "A {service} on {starts_at} for {name}?"
    assert config["greeting"] == "Hello, this is {business}."


def test_the_demo_agent_books_moves_and_cancels() -> None:
    intents = templates_by_slug()["salon-front-desk"].config["intents"]
    wanted = {"book_appointment", "reschedule_appointment", "cancel_appointment"}
    assert {intent.get("tool") for intent in intents} >= wanted


def test_a_good_file_is_read(tmp_path: Path) -> None:
    template = read_template(write_template(tmp_path, TEMPLATE))
    assert (template.slug, template.config) == ("desk", CONFIG)


BAD_CONFIGS = {
    "no greeting": ("greeting", ..., "“greeting” is missing."),
    "a greeting that is empty": ("greeting", "", "greeting: This must not be empty."),
    "an unknown engine": ("engine", "magic", "engine: This must be one of cascade, moshi, openai_realtime."),
    "a key that nobody knows": ("colour", "red", "“colour” does not belong here."),
    "a list instead of text": ("voice", ["heart"], "voice: This must be text."),
    "a name that is too long": ("name", "x" * 81, "name: This must be at most 80 characters long."),
    "an intent without examples": ("intents.0.examples", [], "intents.0.examples: At least one is needed."),
    "an intent with a spoken name": ("intents.0.name", "Book it", "“Book it” is not of the form that is needed here"),
    "a choice without choices": ("intents.0.questions.0.choices", ..., "“choices” is missing."),
    "an unknown type of question": ("intents.0.questions.0.type", "colour", "This must be one of choice, datetime,"),
    "an hour that is none": ("intents.0.questions.1.from_hour", 30, "from_hour: This must be 12 or less."),
    "a tool that does not exist": ("tools", ["book_appointment", "fly"], "tools.1: There is no tool “fly”."),
    "a tool twice": ("tools", ["book_appointment", "book_appointment"], "tools: The same stands here twice."),
    "an intent whose tool is not granted": ("tools", [], "“book_appointment” is not among the agent's tools."),
    "a slot that nothing fills": ("intents.0.confirm", "For {guests}?", "No question fills “{guests}”."),
    "a greeting with a slot": ("greeting", "Hello {name}.", "greeting: Nothing fills “{name}” here."),
    "an answer with a slot": ("facts.0.answer", "On {day}.", "facts.0.answer: Nothing fills “{day}” here."),
    "an argument that the tool does not take": (
        "intents.0.arguments.colour",
        "red",
        "The tool book_appointment takes no “colour”.",
    ),
    "an argument that the tool needs": ("intents.0.arguments.phone", ..., "needs “phone”."),
    "an argument from nowhere": ("intents.0.arguments.notes", "{guests}", "No question fills “{guests}”."),
    "two intents of one name": ("intents", [*CONFIG["intents"], *CONFIG["intents"]], "two intents named “book”"),
    "two questions of one name": ("intents.0.questions.1.name", "service", "Two questions have the same name."),
    "one question answered twice": (
        "facts",
        [{"question": "Where?", "answer": "Here."}, {"question": "where?", "answer": "There."}],
        "facts.1: “where?” is answered twice.",
    ),
}
BAD_FILES = {
    "no slug": ("slug", ..., "“slug” is missing."),
    "no scenarios": ("scenarios", ..., "“scenarios” is missing."),
    "an unknown vertical": ("vertical", "zoo", "vertical: This must be one of healthcare, real_estate,"),
    "another vertical than its folder": ("vertical", "hospitality", "says vertical “hospitality” but lies in “salon”."),
    "a service of no time": ("services.0.duration_minutes", 0, "duration_minutes: This must be 5 or more."),
    "a service twice": ("services", [*TEMPLATE["services"], *TEMPLATE["services"]], "two services named “haircut”"),
    "a choice that cannot be booked": (
        "intents.0.questions.0.choices",
        ["haircut", "wig"],
        "“wig” can be booked but is not among the services.",
    ),
    "an unknown weekday": ("opening_hours.someday", ["09:00-17:00"], "opening_hours: "),
    "hours that are no hours": ("opening_hours.monday", ["nine to five"], "two times like 09:00-17:30"),
    "a time that no clock shows": ("opening_hours.monday", ["09:00-29:00"], "a time here that no clock shows"),
    "a day that ends before it begins": ("opening_hours.monday", ["17:00-09:00"], "cannot close before it opens"),
    "stretches that overlap": ("opening_hours.monday", ["09:00-13:00", "12:00-17:00"], "Two stretches overlap."),
    "a scenario twice": (
        "scenarios",
        [*TEMPLATE["scenarios"], *TEMPLATE["scenarios"]],
        "two scenarios named “books”",
    ),
    "a scenario without turns": ("scenarios.0.turns", [], "scenarios.0.turns: At least one is needed."),
    "a scenario that expects a foreign tool": (
        "scenarios.0.turns.0.expect",
        {"tool": "hand_off"},
        "It expects “hand_off”",
    ),
}


@pytest.mark.parametrize(
    ("path", "value", "sentence"), (BAD_CONFIGS | BAD_FILES).values(), ids=(BAD_CONFIGS | BAD_FILES).keys()
)
def test_a_file_with_a_mistake_is_named_with_what_is_wrong(
    tmp_path: Path, path: str, value: Any, sentence: str
) -> None:
    file = write_template(tmp_path, changed(TEMPLATE, path, value))
    with pytest.raises(CatalogError) as caught:
        read_template(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "it must be a mapping of keys to values"),
        ("- one\n- two\n", "it must be a mapping of keys to values"),
        ("slug: [unclosed\n", "line 2 is not YAML as it is needed here: expected"),
        ("slug: one\nslug: two\n", "line 2 is not YAML as it is needed here: the key “slug” stands twice."),
        ("facts: !!python/object/apply:os.getcwd []\n", "line 1 is not YAML as it is needed here: could not determine"),
        ("slug: \x07\n", "it is not YAML: "),
        (b"slug: \xff\xfe\n", "it is not text in UTF-8."),
    ],
    ids=["empty", "a list", "unclosed", "a key twice", "code", "a control character", "not text"],
)
def test_a_file_that_is_no_template_is_named_with_what_is_wrong(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    file = write_template(tmp_path, content)
    with pytest.raises(CatalogError, match=re.escape(f"{file}: {sentence}")):
        read_template(file)


def test_a_file_that_is_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"gone\.yaml: it cannot be read: No such file"):
        read_template(tmp_path / "salon" / "gone.yaml")


def test_two_files_cannot_share_a_slug(tmp_path: Path) -> None:
    write_template(tmp_path, TEMPLATE)
    write_template(tmp_path, TEMPLATE | {"vertical": "hospitality"}, vertical="hospitality")
    with pytest.raises(CatalogError, match="the slug “desk” is taken by another template"):
        read_catalog(tmp_path)


@pytest.mark.parametrize(("path", "value", "sentence"), BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_a_draft_with_a_mistake_is_told_at_its_place(path: str, value: Any, sentence: str) -> None:
    told = [f"{where}: {what}" if where else what for where, what in problems_of(changed(CONFIG, path, value))]
    assert any(sentence in each for each in told), told


def test_all_that_is_wrong_with_a_draft_is_told_at_once() -> None:
    broken = changed(changed(changed(CONFIG, "greeting", ...), "goodbye", ...), "intents.0.questions.1.ask", "")
    assert sorted(problems_of(broken)) == [
        ("", "“goodbye” is missing."),
        ("", "“greeting” is missing."),
        ("intents.0.questions.1.ask", "This must not be empty."),
    ]


@pytest.mark.parametrize("draft", [{}, {"intents": "none"}, {"tools": None}, []])
def test_a_draft_of_another_shape_is_told_and_breaks_nothing(draft: Any) -> None:
    assert problems_of(draft)


def test_a_bad_catalogue_keeps_the_site_from_starting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert the_catalogue_is_of_its_form(None) == []
    file = write_template(tmp_path, changed(TEMPLATE, "greeting", ...))
    all_templates.cache_clear()
    monkeypatch.setattr("agents.catalog.FOLDER", tmp_path)
    try:
        (error,) = the_catalogue_is_of_its_form(None)
    finally:
        all_templates.cache_clear()
    assert error.id == "agents.E001"
    assert str(file) in error.msg and "“greeting” is missing." in error.msg
