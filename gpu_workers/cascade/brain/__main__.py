"""`python -m gpu_workers.cascade.brain TEMPLATE.yaml`: talk to an agent in the terminal. Its tools always say yes."""

from __future__ import annotations

import argparse
import asyncio
import datetime
from pathlib import Path
from typing import Any

import yaml

from gpu_workers.cascade.brain import HangUp, Say, ToolCalled
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.tool_client import ToolReply
from gpu_workers.protocol import Start


class AgreeableTools:
    """Prints what would be done, and returns its arguments as the result."""

    async def call(self, name: str, arguments: dict[str, Any], turn: int) -> ToolReply:
        print(f"    {name} {arguments}")
        return ToolReply(True, dict(arguments), 0.0)


async def talk(agent: dict[str, Any]) -> None:
    start = Start("console", agent=agent, business={"name": "the business"})
    brain = PolicyBrain(start, AgreeableTools(), lambda: datetime.datetime.now().replace(microsecond=0), IntentModel())
    parts = brain.greet()
    while True:
        async for part in parts:
            match part:
                case Say(text=words):
                    print(f"agent:  {words}")
                case ToolCalled(name=name, ok=ok):
                    print(f"    {name} {'done' if ok else 'failed'}")
                case HangUp():
                    return
        try:
            parts = brain.reply(await asyncio.to_thread(input, "caller: "))
        except EOFError:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("template", type=Path)
    asyncio.run(talk(yaml.safe_load(parser.parse_args().template.read_text())))
