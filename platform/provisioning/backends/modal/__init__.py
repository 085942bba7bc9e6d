import os

# A throttled request waits inside Modal's SDK until it is taken, for ever if need be: who asked has a limit of its own,
# and is to be told why. In seconds; read by the SDK at each call.
os.environ.setdefault("MODAL_MAX_THROTTLE_WAIT", "10")
