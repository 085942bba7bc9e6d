"""Every scenario of every template, held with the policy: what the agent says, which tools it runs, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from agents.catalog import all_templates
from agents.start import agent_document
from gpu_workers.cascade.brain.intents import IntentModel
from tests.gpu_workers.brain.conversations import ToolServer, collect, hung_up, policy, said

SCENARIOS = [
    pytest.param(template.config, scenario, id=f"{template.slug}: {scenario['name']}")
    for template in all_templates()
    for scenario in template.scenarios
]


@pytest.mark.parametrize(("config", "scenario"), SCENARIOS)
async def test_the_scenario_is_held(
    model: IntentModel, tools: ToolServer, config: dict[str, Any], scenario: dict[str, Any]
) -> None:
    brain = policy(model, agent_document(config, business_name="Acme"), tools)
    assert "Acme" in said(await collect(brain.greet(), brain))
    has_ended = False
    for turn in scenario["turns"]:
        expected = turn.get("expect", {})
        calls_before = len(tools.calls)
        parts = await collect(brain.reply(turn["caller"]), brain)
        has_ended = has_ended or hung_up(parts)
        answer = said(parts)
        for words in expected.get("agent_says", []):
            assert words.lower() in answer.lower(), f"to {turn['caller']!r} the agent said {answer!r}"
        if "tool" in expected:
            assert tools.names[calls_before:] == [expected["tool"]]
            arguments = tools.calls[-1][1]
            wanted = expected.get("arguments", {})
            assert {name: arguments.get(name) for name in wanted} == wanted
        else:
            assert tools.names[calls_before:] == [], f"to {turn['caller']!r} the agent ran a tool"
    expected = scenario.get("expect", {})
    if "tools" in expected:
        assert tools.names == expected["tools"]
    assert has_ended == expected.get("hung_up", has_ended)


def test_every_template_has_scenarios_enough() -> None:
    for template in all_templates():
        assert len(template.scenarios) >= 3, template.slug
