from __future__ import annotations

from typing import Any

import pytest

from agents.catalog import templates_by_slug
from agents.start import agent_document
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.policy import PolicyBrain
from tests.gpu_workers.brain.conversations import ToolServer, policy


@pytest.fixture(scope="session")
def model() -> IntentModel:
    return IntentModel()


@pytest.fixture
def tools() -> ToolServer:
    return ToolServer()


@pytest.fixture(scope="session")
def salon() -> dict[str, Any]:
    """The salon's template as a worker gets it."""
    return agent_document(templates_by_slug()["salon-front-desk"].config, business_name="Acme")


@pytest.fixture
def brain(model: IntentModel, salon: dict[str, Any], tools: ToolServer) -> PolicyBrain:
    return policy(model, salon, tools)
