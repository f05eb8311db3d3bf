"""The door: command line, settings, local broker, publisher, metrics."""

__version__ = "0.1.0"
