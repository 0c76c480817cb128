"""Looks at the run from outside, through the topics alone: progress, stalls, lag, quiet."""
