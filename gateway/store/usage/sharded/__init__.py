"""The usage streams of a cluster: shards are leased to ledger writers, which read one by one."""
