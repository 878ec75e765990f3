"""Periods of any time zone, filters in URLs, plots and downloads: the pure parts of reports."""
