"""Exports the traces of calls: from a worker over the exporter process to a collector."""
