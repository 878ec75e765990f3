"""Commands about the people who use the pages."""
