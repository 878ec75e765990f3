"""Where settings come from besides the file, and where each one came from."""
