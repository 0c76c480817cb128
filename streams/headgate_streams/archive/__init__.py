"""Archives of a log: Avro files of each partition with a hash chain, and a manifest that names them all."""
