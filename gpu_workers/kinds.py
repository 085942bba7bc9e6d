"""The kinds of worker there are. To add one: write its folder, and name its engine here."""

from __future__ import annotations

import importlib

from gpu_workers.engine import Engine
from gpu_workers.http_engine import HttpEngine

KINDS: dict[str, str] = {
    "cascade": "gpu_workers.cascade.engine:CascadeEngine",
    "moshi": "gpu_workers.moshi.engine:MoshiEngine",
    "stt": "gpu_workers.stt.engine:SttEngine",
    "tts": "gpu_workers.tts.engine:TtsEngine",
    "llm": "gpu_workers.llm.engine:LlmEngine",
}
"""Kind, and where its engine is. Imported only when used, so that one kind's needs are not another's."""


def make_engine(kind: str, *, checkpoint: str | None = None, max_sessions: int = 4) -> Engine | HttpEngine:
    """Return an engine of this kind, not loaded yet.

    Args:
        checkpoint: folder of the model's weights, for kinds that take one.
        max_sessions: for how many sessions to prepare, where the device carries as many.
    """
    module, _, name = KINDS[kind].partition(":")
    engine: Engine | HttpEngine = getattr(importlib.import_module(module), name)(
        checkpoint=checkpoint, max_sessions=max_sessions
    )
    return engine
