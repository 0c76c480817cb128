"""What Kafka alone does on this machine: loops written by hand, with nothing of the product in them."""
