"""The worker processes: their listeners, their life from start to end, and Granian's part in it."""

import os

# Granian's allocator, jemalloc, reads this when Granian is loaded, and returns freed memory only
# while it is used, unless it has a thread for it: not after many clients have left at once.
os.environ.setdefault("_RJEM_MALLOC_CONF", "background_thread:true,dirty_decay_ms:1000")
