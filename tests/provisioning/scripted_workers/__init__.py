"""Workers for the tests of the supervisor: the real processes, with an engine that does what a file says.

The file is JSON, named by WORKER_SCRIPT: `fail_to_load`, `hang_at_load` and `hang_at_attach` (true, or the processes:
"cold", "zygote"), `places` (a number), `leave_process` (true: start one that outlives the worker).
"""

from __future__ import annotations

from gpu_workers import kinds

kinds.KINDS["cascade"] = "tests.provisioning.scripted_workers.cascade:ScriptedEngine"
