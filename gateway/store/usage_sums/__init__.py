"""Usage summed by quarters of an hour, for pages and reports of any time zone."""
