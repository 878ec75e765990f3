"""The operators' pages: margins and the audit log."""
