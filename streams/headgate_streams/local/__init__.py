"""Parts of the embedded log: its file, its single writer, its groups, its reads."""
