"""The worker processes: their listeners, their life from start to end, and Granian's part in it."""
