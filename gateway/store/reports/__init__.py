"""Queries for pages: sums of usage, lists of calls, and statements of accounts."""
