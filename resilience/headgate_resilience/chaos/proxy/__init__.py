"""A network that misbehaves on demand: TCP links in front of Kafka and of the blob store, in this process."""
