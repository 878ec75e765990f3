"""Pure decisions of routing: which deployment is tried when, and what a failure means."""
