"""Runs authorized calls: plan, reserve, attempts, fallback models."""
