"""What people read of a load: one page of HTML that needs nothing beside it."""
