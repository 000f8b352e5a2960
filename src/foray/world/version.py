"""The world's version, a part of every key: raised whenever the same settings give other problems, text or probes."""

WORLD_VERSION = "world 5"
