"""HTTP to the providers: connections, pools and response bodies."""
