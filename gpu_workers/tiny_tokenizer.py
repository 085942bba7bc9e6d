"""A sentencepiece model for small random checkpoints, trained in a moment."""

from __future__ import annotations

from pathlib import Path

import sentencepiece

SENTENCES = (
    "Hello, how can I help you today?",
    "We are open from nine to six, and closed on Sunday.",
    "Would you like to book an appointment for tomorrow afternoon?",
    "Thank you for calling. Goodbye, and have a good day.",
    "The quick brown fox jumps over the lazy dog while five boxing wizards look on.",
)


def write_tokenizer(path: Path, *, size: int) -> None:
    """Write a tokenizer whose ids 0 to 3 are unknown, begin, end and padding, as in Kyutai's own."""
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES),
            model_writer=file,
            vocab_size=size,
            hard_vocab_limit=False,
            model_type="bpe",
            pad_id=3,
            minloglevel=2,
        )
