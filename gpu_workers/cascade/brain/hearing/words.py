"""Recognised speech as plain lower-case words, and the numbers among them."""

from __future__ import annotations

import re

UNITS = {
    "zero": 0,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
    "nineteen": 19,
}
TENS = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
ORDINALS = {
    "first": 1,
    "second": 2,
    "third": 3,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "eleventh": 11,
    "twelfth": 12,
    "thirteenth": 13,
    "fourteenth": 14,
    "fifteenth": 15,
    "sixteenth": 16,
    "seventeenth": 17,
    "eighteenth": 18,
    "nineteenth": 19,
    "twentieth": 20,
    "thirtieth": 30,
}
DIGIT_WORDS = {**{word: str(value) for word, value in UNITS.items() if value < 10}, "oh": "0", "o": "0", "nought": "0"}
# What recognisers write for a digit that is said alone.
MISHEARD_DIGITS = {"for": "4", "to": "2", "too": "2", "ate": "8", "won": "1", "fore": "4", "tree": "3"}
_WITHOUT_CONTENT = {
    "um",
    "uh",
    "yes",
    "yeah",
    "yep",
    "ok",
    "okay",
    "sure",
    "please",
    "well",
    "hello",
    "hi",
    "hm",
    "hmm",
}
_AROUND_NUMBERS = {"um", "uh", "just", "about", "maybe", "for", "so", "please", "yes", "yeah", "of", "us"}
_TAKING_BACK = {"sorry", "no", "wait", "i", "meant", "mean", "actually"}
REPEATS = {"double": 2, "triple": 3}
PHONE_DIGITS = 10


_DROPPED_APOSTROPHES = {
    "its": "it's",
    "im": "I'm",
    "id": "I'd",
    "ive": "I've",
    "thats": "that's",
    "whats": "what's",
    "wheres": "where's",
    "hows": "how's",
    "names": "name's",
    "lets": "let's",
    "theres": "there's",
    "dont": "don't",
    "doesnt": "doesn't",
    "didnt": "didn't",
    "isnt": "isn't",
    "cant": "can't",
    "couldnt": "couldn't",
    "wont": "won't",
    "youre": "you're",
    "thatll": "that'll",
}


def with_apostrophes(heard: str) -> str:
    """Return an utterance with the apostrophes that some recognisers leave out."""
    return re.sub(r"[A-Za-z]+", lambda match: _DROPPED_APOSTROPHES.get(match[0].lower(), match[0]), heard)


def is_bare_number(heard: str) -> bool:
    """Return whether an utterance is a small number and nothing else: it answers what was asked, and no more."""
    words = [word for word in words_of(heard) if word not in _AROUND_NUMBERS]
    found = number_at(words, 0) if words else None
    return found is not None and found[1] == len(words)


def is_corrected_number(heard: str) -> bool:
    """Return whether an utterance is a small number that takes back another: `sorry, I meant three`."""
    words = words_of(heard)
    rest = [word for word in words if word not in _TAKING_BACK]
    return len(rest) < len(words) and is_bare_number(" ".join(rest))


def has_content(heard: str) -> bool:
    """Return whether an utterance is more than `um, yes`."""
    return any(word not in _WITHOUT_CONTENT for word in words_of(heard))


def words_of(heard: str) -> list[str]:
    """Return the words, lower-case, without punctuation; times like 3:30 and digits stay one word."""
    text = heard.lower().replace("’", "'")
    text = re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1m", text)
    text = re.sub(r"(\d)([ap]m)\b", r"\1 \2", text)
    text = re.sub(r"\bto-(day|night|morrow)\b", r"to\1", text)
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)
    return re.findall(r"\d+:\d\d|\d+(?:st|nd|rd|th)\b|\d+(?:\.\d+)?|[a-z]+(?:'[a-z]+)?", text)


def ordinal_of(word: str) -> int | None:
    """Return the number of `third` or `3rd`, or None."""
    if match := re.fullmatch(r"(\d+)(?:st|nd|rd|th)", word):
        return int(match[1])
    return ORDINALS.get(word)


def number_at(words: list[str], position: int) -> tuple[int, int] | None:
    """Return (value, number of words) of the number below a hundred that begins here, or None."""
    word = words[position]
    if word.isdigit():
        return int(word), 1
    if word in TENS:
        following = words[position + 1] if position + 1 < len(words) else ""
        if 0 < UNITS.get(following, 0) < 10:
            return TENS[word] + UNITS[following], 2
        return TENS[word], 1
    if word in UNITS:
        return UNITS[word], 1
    return None


def read_number(heard: str) -> int | None:
    """Return the first whole number said, up to 999,999; None where there is none."""
    words = words_of(heard)
    found = next((found for start in range(len(words)) if (found := long_number_at(words, start))), None)
    return found[0] if found else None


def long_number_at(words: list[str], start: int) -> tuple[int, int] | None:
    """Return (value, number of words) of the number up to 999,999 that begins here, or None."""
    is_round = words[start] == "a" and words[start + 1 : start + 2] in (["hundred"], ["thousand"])
    if number_at(words, start) is None and not is_round:
        return None
    total, current, position, end = 0, 0, start, start
    while position < len(words):
        word = words[position]
        if word == "hundred":
            current = (current or 1) * 100
        elif word == "thousand":
            total, current = total + (current or 1) * 1000, 0
        elif word in ("and", "a"):
            position += 1
            continue
        elif found := number_at(words, position):
            if current % 100 and current < 100:
                break
            current += found[0]
            position += found[1] - 1
        else:
            break
        position += 1
        end = position
    return total + current, end - start


def read_digits(heard: str) -> str:
    """Return all digits said, in order: `five five five, oh one two` and `555-0123` alike."""
    words = words_of(heard)
    digits: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        following = words[position + 1] if position + 1 < len(words) else ""
        if word in REPEATS and (digit := DIGIT_WORDS.get(following) or (following if following.isdigit() else "")):
            digits.append(digit * REPEATS[word])
            position += 2
            continue
        if word in DIGIT_WORDS:
            digits.append(DIGIT_WORDS[word])
        elif word in MISHEARD_DIGITS and digits and (following in DIGIT_WORDS or following.isdigit() or not following):
            digits.append(MISHEARD_DIGITS[word])
        elif word.isdigit():
            digits.append(word)
        elif found := number_at(words, position):
            digits.append(str(found[0]))
            position += found[1]
            continue
        elif word == "hundred" and digits:
            digits.append("00")
        position += 1
    return "".join(digits)


def _runs(heard: str) -> list[tuple[bool, list[str]]]:
    """Return the words in runs: (whether these are digits, the words)."""
    runs: list[tuple[bool, list[str]]] = []
    for word in words_of(heard):
        is_digits = word.isdigit() or word in DIGIT_WORDS or word in REPEATS
        if not runs or runs[-1][0] != is_digits:
            runs.append((is_digits, []))
        runs[-1][1].append(word)
    return runs


def digit_runs(heard: str) -> list[str]:
    """Return each run of digits said without another word between."""
    return [read_digits(" ".join(words)) for is_digits, words in _runs(heard) if is_digits]


def without_phone(heard: str) -> str:
    """Return the utterance without a run of seven digits or more: a telephone number holds no time of day."""
    return " ".join(
        word
        for is_digits, words in _runs(heard)
        if not is_digits or len(read_digits(" ".join(words))) < 7
        for word in words
    )
