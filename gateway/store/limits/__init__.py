"""Admission: reservations, leases of running calls and the fallback while Redis is away."""
