"""Speak sentences with the cascade's own voice: `python -m gpu_workers.cascade.say`, a JSON list of them on its input.

Its output is a JSON list of Ogg Opus files in base64, in the same order. For words that are said by no conversation,
like those for a caller whom no agent can take.
"""

from __future__ import annotations

import base64
import json
import sys

import numpy as np
import sphn
from hibari import Hibari

from gpu_workers.cascade.speaking import LOUDNESS, trim
from gpu_workers.pcm import Samples
from gpu_workers.protocol import SAMPLE_RATE_HZ

SEED = 1
"""The same words always sound the same."""
PAUSE_SECONDS = 0.15
"""Between two sentences, and after the last: what makes no whole packet of Opus is lost."""


def say(voice: Hibari, text: str) -> bytes:
    """Return a text as Ogg Opus."""
    pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE_HZ), np.float32)
    parts: list[Samples] = []
    for sentence in voice.split_sentences(text):
        parts += [trim(voice(sentence, seed=SEED)) * LOUDNESS, pause]
    writer = sphn.OpusStreamWriter(SAMPLE_RATE_HZ)
    return bytes(writer.append_pcm(np.concatenate([*parts, pause]).astype(np.float32)))


def main() -> None:
    voice = Hibari()
    files = [base64.b64encode(say(voice, text)).decode() for text in json.load(sys.stdin)]
    json.dump(files, sys.stdout)


if __name__ == "__main__":
    main()
