"""The words: Avro schemas, the records they describe, money, keys, and the codec."""
