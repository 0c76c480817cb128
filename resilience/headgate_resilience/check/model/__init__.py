"""What must follow from the log, worked out anew: graphs, accounts, lifetimes, joins, caps."""
