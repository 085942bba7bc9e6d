"""Kyutai's text-to-speech, many voices in one batch, over the protocol of moshi-server."""

import gpu_workers.moshi  # noqa: F401  (settings of the package moshi, before it is imported)
