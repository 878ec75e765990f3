"""What `bench.run` is made of: systems, loads, measurements, results, tables and plots."""
