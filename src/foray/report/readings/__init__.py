"""Readings of an excursion beyond pass@k: pure functions of counts, one idea a file. Formulas: docs/statistics.md.

A reading imports nothing of the page. Its section or figure selects the models, and averages over seeds.
"""
