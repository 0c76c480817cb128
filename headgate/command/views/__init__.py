"""What the command shows: pure state made from happenings, and its renderings."""
