"""The real gateway, with one more backend in its registry: `python -m tests.voice.gateway_process --port N`.

With `--plain` another server's WebSockets are under it, whose connections cannot be spliced.
"""

import sys

import uvicorn

from config import gateway
from provisioning.backends import BACKENDS

BACKENDS["scripted"] = "tests.voice.scripted_backend.ScriptedBackend"

if __name__ == "__main__":
    if "--plain" in sys.argv:
        port = int(sys.argv[sys.argv.index("--port") + 1])
        uvicorn.run(gateway.application, port=port, ws="websockets-sansio", lifespan="on", log_config=None)
    else:
        gateway.main()
