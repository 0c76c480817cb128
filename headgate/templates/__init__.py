"""Projects that `headgate init` copies; package files, never imported."""
