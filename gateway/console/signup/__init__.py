"""Pages with which new people open an account of their own."""
