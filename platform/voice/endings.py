"""Why calls end, and what their callers are told: each ending that the gateway knows, and how it is read off a side."""

from __future__ import annotations

import dataclasses

from gpu_workers.protocol import CloseCode
from voice.models import EndReason
from voice.sockets import WorkerSocket, WorkerUnavailable


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """Why a call ended, and what the caller is told."""

    reason: EndReason
    close_code: CloseCode


HUNG_UP = Ending(EndReason.CALLER_HUNG_UP, CloseCode.NORMAL)
AGENT_HUNG_UP = Ending(EndReason.AGENT_HUNG_UP, CloseCode.NORMAL)
SPENT = Ending(EndReason.SPEND_CAP, CloseCode.SPEND_CAP)
TIME_LIMIT = Ending(EndReason.TIME_LIMIT, CloseCode.TIME_LIMIT)
CALLER_SILENT = Ending(EndReason.CALLER_SILENT, CloseCode.TIMED_OUT)
CALLER_STUCK = Ending(EndReason.CALLER_STUCK, CloseCode.TIMED_OUT)
CALLER_LOST = Ending(EndReason.CALLER_LOST, CloseCode.TIMED_OUT)
WORKER_LOST = Ending(EndReason.WORKER_LOST, CloseCode.WORKER_LOST)
STOPPED = Ending(EndReason.GATEWAY_STOPPED, CloseCode.GOING_AWAY)
CLOSED_BY_ANOTHER = Ending(EndReason.GATEWAY_LOST, CloseCode.INTERNAL_ERROR)
TAKEN_BY_ANOTHER = Ending(EndReason.GATEWAY_LOST, CloseCode.RESUMED_ELSEWHERE)
FAILED = Ending(EndReason.FAILED, CloseCode.INTERNAL_ERROR)

GOODBYES = (1000, 1001)
"""With these a client that can come back says that it will not."""

# With which codes a server closes by itself on a caller who breaks the WebSocket protocol. 1007: text that is no UTF-8.
_FAULTS = {
    1002: CloseCode.PROTOCOL_ERROR,
    1003: CloseCode.UNSUPPORTED_DATA,
    1007: CloseCode.UNSUPPORTED_DATA,
    1009: CloseCode.MESSAGE_TOO_BIG,
}
_WHY_NO_WORKER = {
    CloseCode.WORKER_AT_CAPACITY: EndReason.WORKER_AT_CAPACITY,
    CloseCode.WORKER_TIMED_OUT: EndReason.WORKER_TIMED_OUT,
}


def callers_fault(close_code: int | None) -> Ending | None:
    """Return the ending where a caller was closed on for breaking the protocol."""
    fault = _FAULTS.get(close_code or 0)
    return None if fault is None else Ending(EndReason.CALLER_FAULT, fault)


def without_a_worker(problem: WorkerUnavailable) -> Ending:
    """Return how a call ends for which no worker was found."""
    return Ending(_WHY_NO_WORKER.get(problem.close_code, EndReason.NO_WORKER), problem.close_code)


def of_worker(worker: WorkerSocket) -> Ending:
    """Return what it means that a worker has left; `WORKER_LOST` where another one may go on."""
    # 1005: closed with no code, as stock servers do when they are done.
    if worker.close_code in (1000, 1005):
        return AGENT_HUNG_UP
    if worker.close_code == CloseCode.TIMED_OUT:  # the line was silent: another worker would hear no more
        return CALLER_SILENT
    return WORKER_LOST
