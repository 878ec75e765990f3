"""Accounts, credits, redemption codes and the audit log in SQL."""
