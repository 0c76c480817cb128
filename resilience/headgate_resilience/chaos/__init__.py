"""`headgate chaos`: real gates and workers at work while something breaks; then the checker judges."""
