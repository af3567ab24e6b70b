"""The Python process around elefast: clocks, signals, event loops, terminal, cache directory, hashing, text."""
