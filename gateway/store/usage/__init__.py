"""Usage events from the worker to the ledger: journal, spill, reader, writer and reports."""
