"""The processes of one gateway: supervisor, workers, Valkey, ledger writer and metrics."""
