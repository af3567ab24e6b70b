"""Load: the command of the benchmarks in a short form, and that it tells what grows."""
