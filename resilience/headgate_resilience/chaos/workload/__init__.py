"""What runs while something breaks: graphs, policies and handlers that ship, and who starts lifetimes."""
