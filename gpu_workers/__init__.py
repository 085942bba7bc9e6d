import os

# The runtime of the models reports to its maker unless told not to: what callers do here is nobody else's business, and
# the database that it keeps for that would be shared by all forks.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
