"""Moshi: speech to speech, many conversations in one batch."""

import os

# moshi compiles small functions when they are first called: seconds of a start, threads that no fork survives, and
# code that GPU snapshots have trouble with. CUDA graphs bring most of the speed. NO_TORCH_COMPILE= (empty) compiles.
os.environ.setdefault("NO_TORCH_COMPILE", "1")
