"""How the log is read again: where its topics are, which part is meant, in which order it comes."""
