"""All targets by name."""

from __future__ import annotations

from tests.fuzz import request_targets, stored_targets, upstream_targets

TARGETS = {
    target.name: target
    for module in (request_targets, stored_targets, upstream_targets)
    for target in module.TARGETS
}
