"""The hop to the providers: connections, pools, clocks."""
