"""What the engines have in common that speak one of moshi-server's protocols: sessions are streams of one batch."""

from __future__ import annotations

import abc
import logging
from typing import Any

from gpu_workers import moshi_messages
from gpu_workers.batch_engine import BatchEngine
from gpu_workers.batching import BatchFailed, NoPlace
from gpu_workers.line import LineClosed, receive_binary
from gpu_workers.moshi_messages import BadMessage, MessageTooBig
from gpu_workers.protocol import CloseCode
from gpu_workers.visit import Visit, close, send_quietly

logger = logging.getLogger(__name__)

NO_PLACE = "No free channels: try again later."
FAILED = "The model failed: connect again."


class MoshiServerEngine(BatchEngine):
    """Holds sessions, and ends each with the protocol's words for what went wrong. Kinds say what a session is."""

    path: str
    refusal: bytes | None = moshi_messages.error(NO_PLACE)

    async def serve(self, visit: Visit) -> str:
        """Hold a session until the client hangs up or has all it asked for, and return why it ended."""
        logger.info("session began", extra={"fields": {"session": visit.session_id}})
        try:
            why = await self._hold(visit)
        except LineClosed as closed:
            return await _end(visit, closed.code, str(closed))
        except ConnectionError:
            return "caller_gone"
        except NoPlace:
            return await _end(visit, CloseCode.WORKER_AT_CAPACITY, NO_PLACE)
        except BatchFailed:
            return await _end(visit, CloseCode.INTERNAL_ERROR, FAILED)
        except Exception:
            logger.exception("a session failed")
            return await _end(visit, CloseCode.INTERNAL_ERROR, FAILED)
        await close(visit.socket, CloseCode.NORMAL)
        return why

    @abc.abstractmethod
    async def _hold(self, visit: Visit) -> str:
        """Hold a session, and return why it ended.

        Raises:
            LineClosed: what the client sent was not of the protocol's form, or nothing came for too long.
            ConnectionError: the client has gone, or takes nothing any more.
            NoPlace, BatchFailed
        """


async def receive(visit: Visit, *, timeout_seconds: float) -> tuple[str, dict[str, Any]] | None:
    """Return the type and the fields of the client's next message; None where it has hung up.

    Raises:
        LineClosed: the message is not of the protocol's form, or none came in time.
    """
    try:
        message = await receive_binary(visit.socket, timeout_seconds=timeout_seconds)
        if message is not None:
            return moshi_messages.unpack(message)
    except TimeoutError:
        raise LineClosed(CloseCode.TIMED_OUT) from None
    except BadMessage as problem:
        raise refused(problem) from problem
    if visit.socket.close_code == CloseCode.MESSAGE_TOO_BIG:
        raise LineClosed(CloseCode.MESSAGE_TOO_BIG)  # longer than the socket takes, which has closed itself
    return None


def refused(problem: BadMessage) -> LineClosed:
    code = CloseCode.MESSAGE_TOO_BIG if isinstance(problem, MessageTooBig) else CloseCode.PROTOCOL_ERROR
    return LineClosed(code, str(problem))


async def _end(visit: Visit, code: CloseCode, sentence: str) -> str:
    await send_quietly(visit.socket, moshi_messages.error(sentence))
    await close(visit.socket, code)
    return code.name.lower()
