"""The real gateway, with one more backend in its registry: `python -m tests.voice.gateway_process --port N`."""

from config import gateway
from provisioning.backends import BACKENDS

BACKENDS["scripted"] = "tests.voice.scripted_backend.ScriptedBackend"

if __name__ == "__main__":
    gateway.main()
