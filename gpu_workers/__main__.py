"""Run one worker: `python -m gpu_workers cascade --port 8998`. Any client of the Moshi protocol can call it.

The environment may hold `WARMLINE_SESSION_KEY` (hex; without it no token is asked) and `WARMLINE_ORDERED_NS` (when the
start was ordered, on the clock of `time.monotonic_ns`).
"""

from __future__ import annotations

import argparse
import json
import os
import time

STARTED_NS = time.monotonic_ns()

from gpu_workers import process  # noqa: E402  (the clock comes first)


def main() -> None:
    process.limit_threads()
    from gpu_workers import kinds, logs
    from gpu_workers.engine import Identity
    from gpu_workers.protocol import BootKind

    parser = argparse.ArgumentParser(prog="python -m gpu_workers", description=__doc__)
    parser.add_argument("kind", choices=sorted(kinds.KINDS))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8998, help="0 takes any free port")
    parser.add_argument("--max-sessions", type=int, default=4, help="fewer, where the device carries fewer")
    parser.add_argument("--container", default=f"local-{os.getpid()}", help="name in logs and reports")
    parser.add_argument("--checkpoint", help="folder of the model's weights")
    parser.add_argument("--grace-seconds", type=float, default=30.0, help="how long calls may last after SIGTERM")
    arguments = parser.parse_args()

    logs.start_logging(container=arguments.container)
    engine = kinds.make_engine(arguments.kind, checkpoint=arguments.checkpoint, max_sessions=arguments.max_sessions)
    engine.load()
    key = os.environ.get("WARMLINE_SESSION_KEY")
    process.run(
        engine,
        Identity(
            container=arguments.container,
            boot=BootKind.COLD,
            max_sessions=arguments.max_sessions,
            session_key=bytes.fromhex(key) if key else None,
        ),
        process.Address(arguments.host, arguments.port),
        ordered_ns=int(os.environ.get("WARMLINE_ORDERED_NS", STARTED_NS)),
        grace_seconds=arguments.grace_seconds,
        report=lambda document: print(json.dumps(document), flush=True),
    )


if __name__ == "__main__":
    main()
