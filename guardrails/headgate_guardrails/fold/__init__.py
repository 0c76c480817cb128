"""The deterministic fold: state and a record in, state and outputs out. No clock, no I/O, no randomness."""
