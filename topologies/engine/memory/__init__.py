"""Kafka in memory: `Memory`, where every transaction commits at once, and a simulated Kafka whose clients can fail."""

from topologies.engine.memory.driver import Memory, MemoryBase, Stored

__all__ = ["Memory", "MemoryBase", "Stored"]
