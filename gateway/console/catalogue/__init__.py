"""The operators' pages about the providers and models of the file and of SQL."""
