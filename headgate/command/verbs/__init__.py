"""The verbs of the command, one module for each subject; heavy imports happen inside the functions."""
