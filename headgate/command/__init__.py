"""The `headgate` command: what people and scripts type. `main` is its way in."""
