"""How records travel: the log port and its adapters, topics, codec, offsets, blobs."""
