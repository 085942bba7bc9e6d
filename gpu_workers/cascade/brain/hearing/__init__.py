"""From what a speech recogniser wrote to values: times, numbers, names, choices, yes and no."""
