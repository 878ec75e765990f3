"""The path of one call, from admission to the record. Start reading at `proxy.handle`."""
