"""How the log is read again: verified, tried under another policy, forked, archived."""
