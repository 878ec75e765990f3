"""The processes of the gateway: supervisor, embedded Valkey, ledger and metrics."""
