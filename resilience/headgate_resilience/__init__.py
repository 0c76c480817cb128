"""The proof: `check` recomputes the invariants from the raw log, `chaos` breaks things on purpose first."""
