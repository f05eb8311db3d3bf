"""The plan: topics, agents, and the engine that runs them."""
