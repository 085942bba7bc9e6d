"""The states of many streams in modules of the package `moshi`, which are stepped together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch


class Streaming:
    """Has modules stream for a number of places, until it is closed."""

    def __init__(self, *modules: Any, places: int, device: torch.device) -> None:
        self._modules, self._places, self._device = modules, places, device
        self._held = contextlib.ExitStack()
        with torch.inference_mode():
            for module in modules:
                self._held.enter_context(module.streaming(places))

    def mask(self, places: Iterable[int]) -> torch.Tensor:
        """Return which places take part: one truth value for each."""
        mask = torch.zeros(self._places, dtype=torch.bool)
        mask[list(places)] = True
        return mask.to(self._device)

    def reset(self, place: int) -> None:
        """Leave nothing of the stream that had a place."""
        with torch.inference_mode():
            for module in self._modules:
                module.reset_streaming(self.mask([place]))

    def close(self) -> None:
        """Forget all states, so that the modules can be used in another batch."""
        self._held.close()
