"""What is meant is found in words that no template has, as recognisers write them."""

from __future__ import annotations

import numpy as np
import pytest

from agents.catalog import templates_by_slug
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.subjects import INTENT_LIKENESS, Subjects
from tests.gpu_workers.brain.conversations import MONDAY

WISHES = [
    ("salon-front-desk", "i wanna get my hair done", "book"),
    ("salon-front-desk", "could somebody cut my hair sometime this week", "book"),
    ("salon-front-desk", "i can't come in on thursday", "reschedule"),
    ("salon-front-desk", "could i swap my appointment for another day", "reschedule"),
    ("salon-front-desk", "please scrap my appointment", "cancel"),
    ("salon-front-desk", "i'm afraid i have to call the whole thing off", "cancel"),
    ("salon-front-desk", "let maria know i'm running late", "message"),
    ("dental-office", "my crown came off", "report_pain"),
    ("dental-office", "my tooth is killing me", "report_pain"),
    ("dental-office", "i'd like to get my teeth cleaned", "book"),
    ("dental-office", "she can't breathe any more", "emergency"),
    ("clinic-reception", "i need to see a doctor i've had a cough for two weeks", "book"),
    ("plumber-dispatch", "there's water pouring out of my ceiling", "report_an_emergency"),
    ("plumber-dispatch", "something smells like gas in the basement", "gas"),
    ("plumber-dispatch", "my kitchen tap keeps dripping can someone take a look", "book_a_visit"),
    ("restaurant-host", "have you got room for six of us on saturday night", "book_a_table"),
    ("restaurant-host", "we won't be able to come tonight after all", "cancel_a_table"),
    ("restaurant-host", "i think i forgot my jacket at your place", "message"),
    ("viewings-desk", "i'd like to see harbour view", "book_a_viewing"),
    ("viewings-desk", "we are looking for a bigger place with a garden", "find_a_home"),
    ("product-desk", "your app shuts down whenever i open it", "open_a_ticket"),
    ("product-desk", "could you walk my team through the product", "book_a_demo"),
    ("veterinary-clinic", "my dog needs his shots", "book"),
]

QUESTIONS = [
    ("salon-front-desk", "what time do you guys shut on saturdays", "open Tuesday to Friday"),
    ("salon-front-desk", "what would a trim set me back", "forty five dollars"),
    ("salon-front-desk", "is there somewhere to leave my car", "free parking"),
    ("restaurant-host", "could i bring my puppy along", "terrace"),
    ("restaurant-host", "what sort of dishes do you cook", "Italian"),
    ("dental-office", "do you do payment by instalments", "six months"),
    ("product-desk", "could i try it out without paying", "fourteen days"),
    ("plumber-dispatch", "what do you guys charge by the hour", "call-out"),
]


def subjects_of(model: IntentModel, slug: str) -> Subjects:
    config = templates_by_slug()[slug].config
    return Subjects(model, config["intents"], config["facts"])


@pytest.mark.parametrize(("slug", "heard", "wanted"), WISHES)
def test_a_wish_is_found_in_other_words(model: IntentModel, slug: str, heard: str, wanted: str) -> None:
    intent, likeness = subjects_of(model, slug).closest_intent(heard, MONDAY)
    assert intent["name"] == wanted and likeness >= INTENT_LIKENESS


@pytest.mark.parametrize(("slug", "heard", "answer"), QUESTIONS)
def test_a_fact_is_found_in_other_words(model: IntentModel, slug: str, heard: str, answer: str) -> None:
    fact = subjects_of(model, slug).fact_for(heard, MONDAY)
    assert fact is not None and answer in fact["answer"]


@pytest.mark.parametrize(
    "heard", ["purple elephants calculate the tide", "my grandmother was a pilot", "seven", "the weather is lovely"]
)
def test_what_means_nothing_here_is_taken_for_nothing(model: IntentModel, heard: str) -> None:
    subjects = subjects_of(model, "salon-front-desk")
    assert subjects.closest_intent(heard, MONDAY)[1] < INTENT_LIKENESS
    assert subjects.fact_for(heard, MONDAY) is None


@pytest.mark.parametrize(
    ("heard", "choices", "meant"),
    [
        ("inside please", ["dining room", "terrace", "chef's counter"], "dining room"),
        ("my boiler is broken", ["leak repair", "drain cleaning", "boiler service"], "boiler service"),
        ("get it dyed", ["haircut", "colour", "highlights", "beard trim"], "colour"),
        ("i don't know", ["haircut", "colour", "highlights", "beard trim"], None),
        ("what is the difference", ["haircut", "colour", "highlights", "beard trim"], None),
    ],
)
def test_a_choice_is_found_in_other_words_where_it_is_plain(
    model: IntentModel, heard: str, choices: list[str], meant: str | None
) -> None:
    assert Subjects(model, [], []).closest_choice(heard, choices, is_asked=True) == meant


def test_sentences_alike_in_meaning_are_close_and_vectors_are_of_length_one(model: IntentModel) -> None:
    wish, same, other = map(
        model.embed, ("I want to book an appointment", "Can I make an appointment?", "It is raining")
    )
    assert np.isclose(np.linalg.norm(wish), 1.0, atol=1e-5) and wish.shape == (384,)
    assert wish @ same > wish @ other + 0.2


def test_nothing_is_closest_to_nothing(model: IntentModel) -> None:
    assert model.closest("hello", []) == (-1, -1.0)
