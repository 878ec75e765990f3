"""What is exported of a call's trace at its end."""
