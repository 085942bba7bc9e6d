"""Reading an answer to a question: yes or no, one of several, a name, a telephone number, an e-mail address."""

from __future__ import annotations

import difflib
import re

from gpu_workers.cascade.brain.hearing.dates import MONTHS, WEEKDAYS
from gpu_workers.cascade.brain.hearing.words import (
    DIGIT_WORDS,
    MISHEARD_DIGITS,
    PHONE_DIGITS,
    TENS,
    UNITS,
    digit_runs,
    long_number_at,
    number_at,
    ordinal_of,
    read_digits,
    words_of,
)

_YES = {
    "yes",
    "yeah",
    "yep",
    "yup",
    "sure",
    "correct",
    "right",
    "exactly",
    "okay",
    "ok",
    "fine",
    "perfect",
    "great",
    "absolutely",
    "definitely",
    "please",
    "good",
    "agreed",
    "true",
    "indeed",
    "lovely",
}
_YES_PHRASES = (
    "go ahead",
    "do it",
    "that's it",
    "sounds good",
    "of course",
    "book it",
    "that works",
    "that is right",
    "why not",
)
_NO = {"no", "nope", "nah", "not", "none", "neither", "wrong", "incorrect", "don't", "isn't", "never"}


def read_yes_no(heard: str) -> bool | None:
    """Return whether the answer is a yes or a no; None where it is neither."""
    words = words_of(heard)
    text = " ".join(words)
    if not words:
        return None
    if re.search(r"\b(no problem|not bad|why not)\b", text):
        return True
    if words[0] in _NO or any(word in _NO for word in words[:4]):
        return False
    if any(phrase in text for phrase in _YES_PHRASES) or any(word in _YES for word in words[:5]):
        return True
    return None


def read_choice(heard: str, choices: list[str], *, is_exact: bool = False) -> str | None:
    """Return which of the choices was said, or None for none or several alike.

    Args:
        is_exact: do not allow for what recognisers get wrong.
    """
    words = words_of(heard)
    if named := read_named_choice(heard, choices):
        return named
    if is_exact:
        return _by_single_word(words, choices)
    scored = sorted(((_likeness(words, words_of(choice)), choice) for choice in choices), reverse=True)
    if scored and scored[0][0] >= 0.75 and (len(scored) == 1 or scored[0][0] - scored[1][0] > 0.05):
        best = scored[0][1]
        own = _own_words(best, choices)
        # `A cleaning` is close to `deep cleaning`, and says nothing of which cleaning.
        if not own or _likeness(words, own) >= 0.6:
            return best
    return _by_single_word(words, choices)


def read_named_choice(heard: str, choices: list[str]) -> str | None:
    """Return which of the choices was said with all its words."""
    words = words_of(heard)
    text = " ".join(words)
    exact = [choice for choice in choices if re.search(rf"\b{re.escape(' '.join(words_of(choice)))}(?:s|es)?\b", text)]
    if exact:
        return max(exact, key=len)
    squeezed = {"".join(words[start:end]) for end in range(len(words) + 1) for start in range(max(0, end - 4), end)}
    joined = [choice for choice in choices if "".join(words_of(choice)) in squeezed]
    return max(joined, key=len, default=None)


def _own_words(choice: str, choices: list[str]) -> list[str]:
    """Return the words of a choice that no other has."""
    others = {word for other in choices if other != choice for word in words_of(other)}
    return [word for word in words_of(choice) if word not in others]


def _likeness(words: list[str], wanted: list[str]) -> float:
    target, best = "".join(wanted), 0.0
    for length in range(1, len(wanted) + 2):
        for start in range(len(words) - length + 1):
            best = max(best, difflib.SequenceMatcher(None, "".join(words[start : start + length]), target).ratio())
    return best


def _by_single_word(words: list[str], choices: list[str]) -> str | None:
    """`the deep one` for `deep cleaning`, where no other choice has that word."""
    for word in words:
        if len(word) >= 3 and word not in ("the", "and", "for", "you", "one"):
            having = [choice for choice in choices if any(_is_form_of(word, each) for each in words_of(choice))]
            if len(having) == 1:
                return having[0]
    return None


def _is_form_of(word: str, stem: str) -> bool:
    """Whether a word is another, or a form of it: `leaking` of `leak`."""
    return word == stem or (len(stem) >= 4 and word in (f"{stem}s", f"{stem}ed", f"{stem}ing", f"{stem}y"))


def read_position(heard: str, count: int) -> int | None:
    """Return which of `count` offers was picked by its place, from 0: `the second one`, `the last`, `either`."""
    words = words_of(heard)
    if "last" in words or "latest" in words:
        return count - 1
    if "middle" in words and count == 3:
        return 1
    if any(word in words for word in ("either", "earliest", "whichever")) or re.search(
        r"\bany(?:$| of| one| is| will| works)", " ".join(words)
    ):
        return 0
    for index, word in enumerate(words):
        place = ordinal_of(word)
        following = words[index + 1 : index + 2]
        if (
            place
            and place <= count
            and (following in ([], ["one"], ["option"], ["time"], ["please"], ["works"], ["is"]))
        ):
            return place - 1
    if len(words) >= 2 and words[0] in ("number", "option") and (number := number_at(words, 1)) and number[0] <= count:
        return number[0] - 1
    return None


_NAMED = r"(?:my|the|his|her) name(?: is|'s)|name(?: is|'s)|call me"
_POINTED_OUT = r"this is|i am|i'm|it is|it's|it was|for|under|on behalf of|from"
_BEFORE_NAME = re.compile(
    rf"\b(?P<before>{_NAMED}|{_POINTED_OUT})\s+(?:(?:for|under|on behalf of)\s+)?(?P<name>.+)", re.IGNORECASE
)
_BEFORE_NAME_AGAIN = re.compile(rf"\b(?P<before>{_NAMED}|this is|it is|it's)\s+(?P<name>.+)", re.IGNORECASE)
"""`My name is John, it's John Doe`: the last one counts."""
_ASKING = re.compile(r"(?:is|are|can|could|would|should|do|does|did|what|where|when|how|who|why)\b", re.IGNORECASE)
_AFTER_NAME = re.compile(
    r"[,.;!?]|\b(?:and my|and the|and i|and it|please|thank|thanks|speaking|calling|my number|i'd|i would|on|at|with|"
    r"phone|number|is|here)\b",
    re.IGNORECASE,
)
_BEFORE_NAMES = {
    *(
        "a an the yes yeah yep no sure ok okay hello hi hey um uh hm hmm well just me my it so oh and sorry of course"
    ).split(),
    *("right it's i'm that's is that put under for good great please").split(),
}
"""What people say before a name when they are asked for it."""
_NO_NAMES = _BEFORE_NAMES | {
    *(
        "i i'd i've i'll you your we us they not don't can't won't never nothing nope maybe thank thanks bye goodbye"
    ).split(),
    *("what what's how when where why which would like want need have had was am are do does to from at on in").split(),
    *("book calling looking here fine haircut appointment next this tomorrow today number phone name").split(),
    *WEEKDAYS,
}
_HARDLY_NAMES = {*MONTHS}
"""Said without being asked, these are times: `for April the third`."""
MOST_WORDS_OF_A_NAME = 4


def read_name(heard: str, *, asked: bool) -> str | None:
    """Return a person's name. `asked`: the whole utterance may be one; else only what follows `my name is` and such."""
    text = heard.strip().strip(".!?")
    if spelled := _read_spelled(text):
        return spelled
    match = _BEFORE_NAME.search(text)
    if match is None and _ASKING.match(text):
        return None
    if match is None:
        return _first_name(re.split(r"[;!?.]|,\s", text), is_told=True) if asked else None
    while again := _BEFORE_NAME_AGAIN.search(match["name"]):
        match = again
    is_named = re.fullmatch(_NAMED, match["before"], re.IGNORECASE) is not None
    if not asked and not is_named and not re.match(r"[A-Z][a-z]+", match["name"]):
        # Much follows `for` and `I'm` that is no name; unasked, capitals must tell.
        return None
    return _first_name([_AFTER_NAME.split(match["name"], maxsplit=1)[0]], is_told=asked or is_named)


def _first_name(pieces: list[str], *, is_told: bool) -> str | None:
    return next((name for piece in pieces if (name := _as_name(piece, is_told=is_told))), None)


def _as_name(piece: str, *, is_told: bool) -> str | None:
    """Return the name at the beginning of a piece. `is_told`: it is said to be one, so that small letters will do."""
    parts = re.findall(r"[A-Za-zÀ-ÿ][A-Za-zÀ-ÿ'’-]*", piece)
    while parts and parts[0].lower() in _BEFORE_NAMES:
        parts.pop(0)
    refused = _NO_NAMES | set(UNITS) | set(TENS) | (set() if is_told else _HARDLY_NAMES)
    if any(part.lower() in refused for part in parts[:MOST_WORDS_OF_A_NAME]):
        return None
    parts = parts[:MOST_WORDS_OF_A_NAME]
    if not is_told and not all(part[0].isupper() for part in parts):
        parts = [part for part in parts if part[0].isupper()]
    return " ".join(part[0].upper() + part[1:] for part in parts) or None


_SPELLED = re.compile(r"(?<!['’])\b(?:[A-Za-z](?:[\s.,-]+)){2,}[A-Za-z]\b")
"""`A N N A`, `A-N-N-A`: letters said one by one."""
_BEFORE_SPELLED = re.compile(r"[\s,.]*\b(?:that's|that is|spelled|spelt|it's|which is)?[\s,.]*$", re.IGNORECASE)
LIKENESS_OF_A_SPELLED_NAME = 0.6


def _read_spelled(text: str) -> str | None:
    """Return the name in which letters are spelled: `Anna Smyth, S M Y T H` says how the closest word is written."""
    match = _SPELLED.search(text)
    if match is None:
        return None
    spelled = "".join(re.findall(r"[A-Za-z]", match[0])).capitalize()
    around = f"{_BEFORE_SPELLED.sub('', text[: match.start()])} {text[match.end() :].strip(' ,.')}"
    words = (read_name(around, asked=True) or "").split()
    alike = [difflib.SequenceMatcher(None, word.lower(), spelled.lower()).ratio() for word in words]
    if not alike or max(alike) < LIKENESS_OF_A_SPELLED_NAME:
        return spelled
    words[alike.index(max(alike))] = spelled
    return " ".join(words)


def read_phone(heard: str) -> str | None:
    """Return the digits of a telephone number of 10 digits, or 11 with a leading 1; None where none is complete.

    Recognisers lose one of a run of equal digits, so a number of another length is asked for again, not guessed.
    """
    for digits in (*digit_runs(heard), read_digits(heard)):
        if len(digits) == 11 and digits.startswith("1"):
            return digits[1:]
        if len(digits) == PHONE_DIGITS:
            return digits
    first, digits = words_of(heard)[:1], read_digits(heard)
    if len(digits) == PHONE_DIGITS - 1 and first and first[0] in MISHEARD_DIGITS:
        # `For 155 550 123`: the first digit was taken for a word.
        return MISHEARD_DIGITS[first[0]] + digits
    return None


_COMPANY = (
    (r"\b(?:just|only) (?:me|myself)\b|\bby myself\b", 1),
    (r"\b(?:me|i) and (?:my|a) \w+|\bmy \w+ and (?:i|me|myself)\b|\bthe two of us\b|\bboth of us\b", 2),
)
"""How callers count themselves: `me and my wife`."""
_PEOPLE = {"people", "guests", "persons", "adults"}


def read_count(heard: str, ask: str) -> int | None:
    """Return the number of what a question counts, said unasked: `four people` where it asks `for how many people`."""
    words, counted = words_of(heard), set(words_of(ask))
    is_of_people, has_hour = bool(counted & _PEOPLE), re.search(r"\bat \w+.*\bfor\b", " ".join(words)) is not None
    for index in range(len(words)):
        if (number := long_number_at(words, index)) is None:
            continue
        before, after = words[max(0, index - 2) : index], words[index + number[1] : index + number[1] + 2]
        noun = after[0] if after else ""
        if len(noun) > 3 and (noun in counted or f"{noun}s" in counted):
            return number[0]
        if (
            is_of_people
            and (
                before in (["table", "for"], ["party", "of"], ["reservation", "for"])
                or after == ["of", "us"]
                or noun in _PEOPLE
                # `At one, for six`: the hour is told already.
                or has_hour
                and before[-1:] == ["for"]
            )
        ):
            return None if after[:1] in (["o'clock"], ["am"], ["pm"], ["thirty"], ["fifteen"]) else number[0]
    return read_company(heard) if is_of_people else None


def read_company(heard: str) -> int | None:
    """Return how many people a caller and those who are named with the caller make."""
    text = " ".join(words_of(heard))
    return next((count for pattern, count in _COMPANY if re.search(pattern, text)), None)


_STREET = r"street|st|road|rd|avenue|ave|lane|drive|court|way|boulevard|place|square|close|terrace"
_HOUSE = rf"(?:\d+|{'|'.join([*UNITS, *TENS])})"
_ADDRESS = re.compile(
    rf"\baddress(?: is|'s) (?P<told>[^.,;!?]+)|\b(?P<numbered>{_HOUSE}\b[\w\s-]{{1,30}}?\b(?:{_STREET}))\b",
    re.IGNORECASE,
)


def read_address(heard: str) -> str | None:
    """Return a street with its number that was told without being asked for: `my address is 5 Elm Street`."""
    found = _ADDRESS.search(heard)
    return (found["told"] or found["numbered"]).strip() if found else None


def read_email(heard: str) -> str | None:
    """Return an e-mail address, written or said: `anna dot smith at example dot com`."""
    text = heard.lower().strip().rstrip(".!?")
    if match := re.search(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", text):
        return match[0]
    text = re.sub(r"^.*\b(?:it's|is|that's|to|no|sorry|actually|sure|yes)\b[,\s]+(?=.*\S\s+at\s)", "", text)
    for word, digit in DIGIT_WORDS.items():
        if len(word) > 2:
            text = re.sub(rf"\b{word}\b", digit, text)
    text = re.sub(r"\s+(?:dot|point)\s+", ".", text)
    text = re.sub(r"\s+(?:underscore)\s+", "_", text)
    text = re.sub(r"\s+(?:dash|hyphen|minus)\s+", "-", text)
    text = re.sub(r"\s+at\s+", "@", text, count=1)
    text = text.replace(" ", "").replace(",", "")
    match = re.search(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", text)
    return match[0] if match else None
