"""Real Kafka and MinIO without containers, for `make kafka-up`, `make s3-up` and the test fixtures.

Standard library only, so that it runs before anything is installed. Programs are made once per machine and
kept in the cache (`HEADGATE_CACHE`, default `~/.cache/headgate`).
"""
