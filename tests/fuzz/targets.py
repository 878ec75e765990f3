"""All targets by name."""

from __future__ import annotations

from tests.fuzz import request_targets, upstream_targets

TARGETS = {target.name: target for target in (*request_targets.TARGETS, *upstream_targets.TARGETS)}
