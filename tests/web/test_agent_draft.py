"""The editor of a draft: it keeps what was typed, says what is wrong beside it, and publishes."""

from __future__ import annotations

import copy
import html
import re
from typing import Any

import pytest

from agents.models import Agent
from agents.start import agent_document
from tenants.models import User
from tenants.scope import enter_tenant
from web.agent_editor import make_editor, read_draft
from web.agent_editor.fields import Field, Row

ADDRESS = "/t/acme/agents/front-desk/draft/"


def form_of(draft: dict[str, Any]) -> dict[str, Any]:
    """Return what a browser would send of an unchanged form."""
    editor = make_editor(draft, [])

    def fields_of(row: Row) -> list[Field]:
        return [*row.fields, *(field for question in row.questions for field in question.fields), *row.more]

    fields = [*editor.basics, *editor.words, *editor.recording]
    for row in (*editor.facts, *editor.intents):
        fields += fields_of(row)
    sent = {field.path: str(field.value) for field in fields if field.kind != "check"}
    sent |= {field.path: "on" for field in fields if field.kind == "check" and field.value}
    return {**sent, "tools": draft["tools"]}


def stored(agent: Agent) -> Agent:
    with enter_tenant(agent.tenant_id):
        return Agent.objects.select_related("live_version").get(pk=agent.pk)


def problems_on(page: str) -> dict[str, str]:
    """Return the sentence beside each field that has one, by the field's id."""
    found = re.findall(r'<div class="field__error" id="(\w+)_error"><span>(.*?)</span>', page)
    return {name: html.unescape(sentence) for name, sentence in found}


def test_an_unchanged_form_changes_nothing(client_of: Any, agent: Agent, dora: User) -> None:
    assert client_of(dora).post(ADDRESS, form_of(agent.draft)).status_code == 302
    assert stored(agent).draft == agent.draft


@pytest.mark.parametrize("template", ["salon", "healthcare", "hospitality", "real_estate", "sales_support"])
def test_every_template_goes_through_the_form_as_it_is(template: str) -> None:
    from agents.catalog import all_templates

    for each in all_templates():
        if each.vertical == template:
            sent = form_of(each.config)
            assert read_draft(sent, sent["tools"], each.config) == each.config


def test_recording_is_chosen_with_its_words_and_its_days(client_of: Any, agent: Agent, dora: User) -> None:
    client = client_of(dora)
    chosen = {"recording.enabled": "on", "recording.announcement": "{business} listens in.", "recording.keep_days": "7"}
    client.post(ADDRESS, form_of(agent.draft) | chosen | {"action": "publish"})
    live = stored(agent).live_version
    assert live is not None and live.config["recording"] == {
        "enabled": True,
        "announcement": "{business} listens in.",
        "keep_days": 7,
    }
    told = agent_document(live.config, business_name="Acme")["greeting"]
    assert told.startswith("Acme listens in. ") and "recording" not in agent_document(live.config)
    sent = form_of(stored(agent).draft)
    del sent["recording.enabled"]
    client.post(ADDRESS, sent)
    assert stored(agent).draft["recording"]["enabled"] is False
    assert read_draft(form_of(stored(agent).draft), [], stored(agent).draft)["recording"]["keep_days"] == 7


@pytest.mark.parametrize(
    ("changed", "where", "sentence"),
    [
        ({"engine": "moshi"}, "id_recording_enabled", "Moshi cannot tell callers"),
        ({"recording.keep_days": "a week"}, "id_recording_keep_days", "whole number"),
        ({"recording.keep_days": "0"}, "id_recording_keep_days", "1 or more"),
        ({"recording.announcement": "{doctor} listens."}, "id_recording_announcement", "Nothing fills"),
    ],
)
def test_what_cannot_be_recorded_is_not_published(
    client_of: Any, agent: Agent, dora: User, changed: dict[str, str], where: str, sentence: str
) -> None:
    before = stored(agent).live_version
    sent = {**form_of(agent.draft), "recording.enabled": "on", **changed, "action": "publish"}
    page = client_of(dora).post(ADDRESS, sent).content.decode()
    assert sentence in problems_on(page)[where]
    assert stored(agent).live_version == before


def test_what_is_typed_is_saved_and_not_yet_live(client_of: Any, agent: Agent, dora: User) -> None:
    sent = {
        **form_of(agent.draft),
        "name": "Reception",
        "greeting": "Good morning.",
        "facts.10.question": "Do you do nails?",
        "facts.10.also": "Nails?\n\n  Manicure?  ",
        "facts.10.answer": "Not yet.",
        "tools": ["take_message"],
    }
    for key in [key for key in sent if key.startswith("intents.") and not key.startswith("intents.3.")]:
        del sent[key]
    assert client_of(dora).post(ADDRESS, sent).status_code == 302
    found = stored(agent)
    assert (found.name, found.draft["greeting"]) == ("Reception", "Good morning.")
    assert found.draft["facts"][-1] == {
        "question": "Do you do nails?",
        "also": ["Nails?", "Manicure?"],
        "answer": "Not yet.",
    }
    assert [intent["name"] for intent in found.draft["intents"]] == ["message"]
    assert found.draft["tools"] == ["take_message"]
    assert found.live_version.number == 1 and found.live_version.config["greeting"].startswith("Hello")


def test_publishing_makes_a_version_with_its_note(client_of: Any, agent: Agent, dora: User) -> None:
    sent = {**form_of(agent.draft), "goodbye": "Bye.", "note": "Shorter", "action": "publish"}
    answer = client_of(dora).post(ADDRESS, sent)
    assert answer.headers["Location"] == "/t/acme/agents/front-desk/"
    live = stored(agent).live_version
    assert (live.number, live.note, live.published_by_id) == (2, "Shorter", dora.pk)
    assert live.config["goodbye"] == "Bye."


def test_nothing_new_is_not_published(client_of: Any, agent: Agent, dora: User) -> None:
    answer = client_of(dora).post(ADDRESS, {**form_of(agent.draft), "action": "publish"})
    assert answer.status_code == 422
    assert "Nothing has changed since the live version." in answer.content.decode()


def test_what_is_wrong_stands_beside_its_field_and_the_draft_is_kept(client_of: Any, agent: Agent, dora: User) -> None:
    sent = {
        **form_of(agent.draft),
        "greeting": "",
        "facts.2.answer": "",
        "intents.0.examples": "",
        "intents.0.name": "Book it!",
        "intents.0.questions.1.ask": "",
        "note": "kept too",
        "action": "publish",
    }
    answer = client_of(dora).post(ADDRESS, sent)
    page = answer.content.decode()
    assert answer.status_code == 422
    found = problems_on(page)
    assert set(found) == {
        "id_greeting",
        "id_facts_2_answer",
        "id_intents_0_examples",
        "id_intents_0_name",
        "id_intents_0_questions_1_ask",
    }
    assert found["id_greeting"] == "This must not be empty."
    assert found["id_intents_0_examples"] == "At least one is needed."
    assert "5 things to mend before it can be published" in page
    assert 'href="#id_facts_2_answer"' in page
    assert 'value="Book it!"' in page and 'value="kept too"' in page
    # What is to be mended is unfolded, the rest is not (the two templates of new rows are).
    assert page.count('<details class="part" data-row open>') == 2 + 2
    assert stored(agent).draft["greeting"] == "" and stored(agent).live_version.number == 1


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"intents.0.confirm": "For {nobody}?"}, "id_intents_0_confirm", "No question fills “{nobody}”."),
        ({"intents.0.tool": "take_message"}, "id_intents_0_arguments", "The tool take_message takes no “service”."),
        ({"intents.0.arguments": "service"}, "id_intents_0_arguments", "The tool book_appointment needs"),
        ({"intents.0.questions.0.choices": ""}, "id_intents_0_questions_0_choices", "choices"),
        ({"engine": "abacus"}, "id_engine", "This must be one of cascade, moshi, openai_realtime."),
        ({"engine": "openai_realtime"}, "id_voice", "OpenAI Realtime speaks with one of marin, cedar"),
        ({"realtime.model": "gpt-9", "engine": "openai_realtime"}, "id_realtime_model", "one of gpt-realtime-2.1"),
        ({"name": "x" * 90}, "id_name", "at most 80 characters"),
        ({"intents.0.questions.1.from_hour": "nine"}, "id_intents_0_questions_1_from_hour", "a whole number"),
        ({"intents.0.questions.1.from_hour": "99"}, "id_intents_0_questions_1_from_hour", "12 or less"),
    ],
)
def test_each_mistake_is_told_in_a_sentence(
    change: dict[str, str], field: str, sentence: str, client_of: Any, agent: Agent, dora: User
) -> None:
    client = client_of(dora)
    sent = {**form_of(agent.draft), **change, "action": "publish"}
    page = client.post(ADDRESS, sent).content.decode()
    said = " ".join(html.unescape(each) for each in re.findall(r"<li><a href=[^>]*>(.*?)</a></li>", page))
    assert sentence in said
    if field in problems_on(page):
        assert sentence in problems_on(page)[field]
    assert all(html.escape(typed) in page or typed in html.unescape(page) for typed in change.values())


def test_a_draft_with_problems_shows_them_when_it_is_opened_again(client_of: Any, agent: Agent, dora: User) -> None:
    client = client_of(dora)
    assert client.post(ADDRESS, {**form_of(agent.draft), "greeting": ""}).status_code == 302
    assert "id_greeting" in problems_on(client.get(ADDRESS).content.decode())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("facts", "facts.10.question"),
        ("intents", "intents.4.name"),
        ("intents.0.questions", "intents.0.questions.4.ask"),
    ],
)
def test_a_row_is_added_without_scripts_and_without_saving(
    path: str, expected: str, client_of: Any, agent: Agent, dora: User
) -> None:
    sent = {**form_of(agent.draft), "greeting": "Typed, not saved.", "add": path}
    page = client_of(dora).post(ADDRESS, sent).content.decode()
    assert f'name="{expected}"' in page and "Typed, not saved." in page
    assert "data-unsaved" in page
    assert stored(agent).draft == agent.draft


@pytest.mark.parametrize("path", ["facts.0", "intents.0", "intents.0.questions.1"])
def test_a_row_is_removed_without_scripts_and_without_saving(
    path: str, client_of: Any, agent: Agent, dora: User
) -> None:
    page = client_of(dora).post(ADDRESS, {**form_of(agent.draft), "remove": path}).content.decode()
    expected = copy.deepcopy(agent.draft)
    rows: Any = expected
    *way, last = path.split(".")
    for step in way:
        rows = rows[int(step)] if isinstance(rows, list) else rows[step]
    gone = rows.pop(int(last))
    assert html.escape(str(gone.get("question") or gone.get("ask") or gone["examples"][0])) not in page
    assert stored(agent).draft == agent.draft


@pytest.mark.parametrize(
    "path", ["facts.99", "intents.x", "tools.0.0", "nothing", "intents.0.questions.77", "..", "1.2"]
)
def test_a_row_that_is_not_there_is_not_removed(path: str, client_of: Any, agent: Agent, dora: User) -> None:
    for action in ("add", "remove"):
        answer = client_of(dora).post(ADDRESS, {**form_of(agent.draft), action: path})
        assert answer.status_code == 200


def test_unknown_tools_and_fields_are_left_out(client_of: Any, agent: Agent, dora: User) -> None:
    sent = {**form_of(agent.draft), "tools": ["hand_off", "rm_rf"], "voice_of": "nobody", "facts.x.question": "?"}
    client_of(dora).post(ADDRESS, sent)
    draft = stored(agent).draft
    assert draft["tools"] == ["hand_off"] and "voice_of" not in draft
    assert len(draft["facts"]) == len(agent.draft["facts"])


def test_markup_that_was_typed_stays_words(client_of: Any, agent: Agent, dora: User) -> None:
    client = client_of(dora)
    client.post(ADDRESS, {**form_of(agent.draft), "greeting": '</textarea><script src="//evil.example"></script>'})
    assert '<script src="//evil.example">' not in client.get(ADDRESS).content.decode()
