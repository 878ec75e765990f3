"""Admission: reservations, leases of running calls and the fallback without Redis."""
