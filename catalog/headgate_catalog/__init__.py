"""How the log is looked up: a projection into SQL, made anew whenever wanted, and what it answers."""
