"""The agent that a load runs: what its nodes do is said by the input of each run."""
