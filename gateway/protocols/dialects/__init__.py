"""What is documented about providers, with its sources."""
