"""Running an agent's tools where the platform offers them."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Protocol

import aiohttp

from gpu_workers.protocol import ToolsEndpoint

TIMEOUT_SECONDS = 8.0


@dataclasses.dataclass(frozen=True, slots=True)
class ToolReply:
    """What a tool answered. `sentence` may be said to the caller; `slot` names the question to ask again."""

    ok: bool
    result: dict[str, Any]
    duration_ms: float
    code: str = ""
    sentence: str = ""
    slot: str = ""

    @property
    def alternatives(self) -> list[str]:
        named = self.result.get("alternatives")
        return [each for each in named if isinstance(each, str)] if isinstance(named, list) else []


class ToolClient(Protocol):
    async def call(self, name: str, arguments: dict[str, Any], turn: int) -> ToolReply: ...


class NoTools:
    """For a call that came without an endpoint: every tool fails, in words."""

    async def call(self, name: str, arguments: dict[str, Any], turn: int) -> ToolReply:
        return ToolReply(False, {}, 0.0, code="no_endpoint", sentence="I can't look that up at the moment.")


class HttpToolClient:
    """POST `url`/NAME with the call's token. Failures of any kind are replies, never exceptions."""

    def __init__(self, endpoint: ToolsEndpoint, http: aiohttp.ClientSession) -> None:
        self._endpoint = endpoint
        self._http = http

    async def call(self, name: str, arguments: dict[str, Any], turn: int) -> ToolReply:
        began = time.monotonic()
        try:
            async with self._http.post(
                f"{self._endpoint.url}/{name}",
                json={"arguments": arguments, "turn": turn},
                headers={"Authorization": f"Bearer {self._endpoint.token}"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            ) as response:
                document = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
            return self._failed(began, type(problem).__name__)
        if not isinstance(document, dict) or "ok" not in document:
            return self._failed(began, f"status_{response.status}")
        error, result = document.get("error"), document.get("result")
        error = error if isinstance(error, dict) else {}
        return ToolReply(
            ok=document["ok"] is True,
            result=result if isinstance(result, dict) else {},
            duration_ms=(time.monotonic() - began) * 1000,
            code=str(error.get("code") or ""),
            sentence=str(error.get("sentence") or ""),
            slot=str(error.get("slot") or ""),
        )

    @staticmethod
    def _failed(began: float, code: str) -> ToolReply:
        return ToolReply(
            False,
            {},
            (time.monotonic() - began) * 1000,
            code=code,
            sentence="I can't reach our system at the moment.",
        )
