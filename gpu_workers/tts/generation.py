"""moshi's generation led by its text-to-speech machine, which says what word comes when: for each place by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from moshi.models import LMModel
from moshi.models.tts import Entry, State, StateMachine

from gpu_workers.moshi.generation import SeededGeneration


@dataclasses.dataclass(slots=True)
class Script:
    """What one place has to say, and how far it is. Steps count from 0."""

    state: State
    steps: int = 0
    is_complete: bool = False
    """No more words come."""

    def may_step(self, lookahead: int) -> bool:
        """Return whether enough words are known: the model looks as many ahead, and must not find that there are none.

        A break needs no words after it.
        """
        entries = self.state.entries
        if self.is_complete:
            return True
        if not entries:
            return False
        return not entries[0].tokens or sum(1 for entry in entries if entry.tokens) > lookahead


class ScriptedGeneration(SeededGeneration):
    """SeededGeneration whose text is chosen by the machine and whose sound begins `delay_steps` after its text."""

    def __init__(self, lm: LMModel, machine: StateMachine, *, places: int, delay_steps: int, **sampling: Any) -> None:
        super().__init__(lm, places=places, **sampling)
        self._machine = machine
        self._delay_steps = delay_steps
        self._scripts: dict[int, Script] = {}
        self._nothing = torch.full((places, lm.dep_q, 1), machine.token_ids.zero, device=lm.device)
        self._no_input = torch.full((places, lm.n_q - lm.dep_q, 1), machine.token_ids.zero, device=lm.device)

    def new_script(self, entries: Iterable[Entry] = ()) -> Script:
        return Script(self._machine.new_state(list(entries)))

    def step_scripts(self, scripts: dict[int, Script]) -> torch.Tensor:
        """Step places, which `set_exec_mask` has set. Return tokens of shape (places, 1 + codebooks, 1), text first."""
        self._scripts = scripts
        # Before the sound begins there is none to make: the larger half of the work falls away.
        is_silent = all(script.steps < self._delay_steps for script in scripts.values())
        tokens = self.step(self._no_input, self._nothing if is_silent else None)
        assert isinstance(tokens, torch.Tensor)  # as always where streams are out of step with one another
        for script in scripts.values():
            script.steps += 1
        return tokens

    def is_at_end(self, script: Script, *, padding: int) -> bool:
        """Return whether all has been said, and `padding` frames of its echo."""
        end = script.state.end_step
        return (
            script.is_complete
            and end is not None
            and script.steps >= end + self._delay_steps + padding + self.max_delay
        )

    def is_heard(self, script: Script) -> bool:
        """Return whether the last step gave sound."""
        return script.steps > self._delay_steps + self.max_delay

    def _force_text(self, tokens: torch.Tensor) -> None:
        """Let the machine say what stands in the text. `tokens`: (places,)."""
        chosen = tokens.tolist()
        for place, script in self._scripts.items():
            chosen[place], _ = self._machine.process(script.steps, script.state, chosen[place])
        tokens.copy_(torch.tensor(chosen))

    def _force_audio(self, tokens: torch.Tensor) -> None:
        """Leave out sound from before it begins. `tokens`: (places, codebooks), late by their delays."""
        assert self._streaming_state is not None
        begins_at = self.delays_cuda[1 : 1 + tokens.shape[1]] + self._delay_steps
        is_before = self._streaming_state.offsets[:, None] < begins_at
        tokens.masked_fill_(is_before, self._machine.token_ids.zero)
