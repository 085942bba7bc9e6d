import os

# The runtime of the models reports to its maker unless told not to: what callers do here is nobody else's business, and
# the database that it keeps for that would be shared by all forks.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
"""Of the workers and their images; that of the project."""
