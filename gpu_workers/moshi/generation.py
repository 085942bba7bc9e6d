"""moshi's generation with randomness of each place's own, and with frames that are given and not made.

With one random state for the whole batch, what one caller hears would depend on who else is talking.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from moshi.models import LMGen, LMModel


@dataclasses.dataclass(frozen=True, slots=True)
class Forced:
    """One frame that is given and not made: of a prompt, before the conversation begins.

    `text`: a text token. `agent`, `caller`: Mimi's tokens of the agent's and the caller's sound, of shape (codebooks,).
    """

    text: int
    agent: torch.Tensor
    caller: torch.Tensor


class SeededGeneration(LMGen):
    """LMGen for `places` streams out of step. Its choices are made with the noise of each place's own generator."""

    def __init__(self, lm: LMModel, *, places: int, **sampling: Any) -> None:
        super().__init__(
            lm,
            **sampling,
            support_out_of_sync=True,
            on_text_logits_hook=self._choose_text,
            on_text_hook=self._force_text,
            on_audio_hook=self._force_audio,
        )
        if self.cfg_coef != 1.0:
            raise ValueError("Classifier-free guidance is not served in batches.")
        self.forced: dict[int, tuple[tuple[Forced, ...], int]] = {}
        """Places that step through a prompt: the prompt, and at which of its frames they are."""
        self._text_choices = _at_most(self.top_k_text, lm.text_linear.out_features)
        self._audio_choices = _at_most(self.top_k, lm.card)
        self._generators = [torch.Generator(lm.device) for _ in range(places)]
        # At a fixed address: CUDA graphs read it there. One row for each place: text first, then each codebook.
        self._noise = torch.ones(places, self._text_choices + lm.dep_q * self._audio_choices, device=lm.device)

    def seed(self, place: int, seed: int) -> None:
        """Begin a place's randomness anew."""
        self._generators[place].manual_seed(seed)

    def step(self, input_tokens: torch.Tensor, depformer_replace_tokens: torch.Tensor | None = None) -> Any:
        """Step all places that `set_exec_mask` has set, each with fresh noise of its own."""
        assert self._streaming_state is not None
        for place in self._streaming_state.exec_mask.nonzero()[:, 0].tolist():
            self._noise[place].exponential_(generator=self._generators[place])
        return super().step(input_tokens, depformer_replace_tokens)

    def depformer_step(self, text_token: torch.Tensor, transformer_out: torch.Tensor) -> torch.Tensor:
        """Return the audio tokens of shape (places, codebooks) that follow a text token, one codebook after another."""
        tokens, token = [], text_token
        with self.lm_model.depformer.streaming(text_token.shape[0]):
            for codebook in range(self.lm_model.dep_q):
                logits = self.lm_model.forward_depformer(codebook, token[:, None, None], transformer_out)
                first = self._text_choices + codebook * self._audio_choices
                noise = self._noise[:, first : first + self._audio_choices]
                token = self._choose(logits[:, 0, 0], noise, self.temp)
                tokens.append(token)
        return torch.stack(tokens, dim=1)

    def _choose(self, logits: torch.Tensor, noise: torch.Tensor, temperature: float) -> torch.Tensor:
        """Sample one token for each row of `logits`, among as many of the likeliest as `noise` has columns.

        The largest of p / e, with e exponentially distributed, is a sample of p (the Gumbel-max trick).
        """
        if not self.use_sampling or temperature <= 0:
            return logits.argmax(dim=-1)
        probabilities, tokens = torch.softmax(logits.float() / temperature, dim=-1).topk(noise.shape[1], dim=-1)
        return tokens.gather(-1, (probabilities / noise).argmax(dim=-1, keepdim=True))[:, 0]

    def _choose_text(self, logits: torch.Tensor) -> None:
        """Leave LMGen no choice: the token chosen here is the only one possible. `logits`: (places, 1, 1, tokens)."""
        token = self._choose(logits[:, 0, 0], self._noise[:, : self._text_choices], self.temp_text)
        logits.fill_(float("-inf")).scatter_(-1, token[:, None, None, None], 0.0)

    def _force_text(self, tokens: torch.Tensor) -> None:
        """Put the prompts' text in the place of what was chosen. `tokens`: (places,).

        What is chosen in a step stands beside the caller's sound of the next: hence the frame after.
        """
        for place, (prompt, at) in self.forced.items():
            if at + 1 < len(prompt):
                tokens[place] = prompt[at + 1].text

    def _force_audio(self, tokens: torch.Tensor) -> None:
        """Put the prompts' sound in the place of what was made. `tokens`: (places, codebooks), late by their delays."""
        delays = self.lm_model.delays[1 : 1 + tokens.shape[1]]
        for place, (prompt, at) in self.forced.items():
            for codebook, delay in enumerate(delays):
                frame = at + 1 - delay
                if 0 <= frame < len(prompt):
                    tokens[place, codebook] = prompt[frame].agent[codebook]


def _at_most(choices: int, tokens: int) -> int:
    return min(choices, tokens) if choices > 0 else tokens
