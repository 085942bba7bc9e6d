"""Kyutai's speech-to-text, many streams in one batch, over the protocol of moshi-server."""

import gpu_workers.moshi  # noqa: F401  (settings of the package moshi, before it is imported)
