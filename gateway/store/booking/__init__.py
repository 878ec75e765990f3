"""Books calls: usage rows, sums, charges and balances, exactly once."""
