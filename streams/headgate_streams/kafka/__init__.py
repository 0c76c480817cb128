"""Parts of the Kafka adapter; nothing outside this folder and `kafka_log` imports the client."""
