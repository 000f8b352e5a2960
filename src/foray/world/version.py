"""Versions of the world, parts of keys: raised whenever the same settings give other problems, text or probes."""

WORLD_VERSION = "world 5"  # of problems and text
PROBES_VERSION = f"{WORLD_VERSION}, probes 2"
