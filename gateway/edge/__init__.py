"""Where HTTP comes in: routes, answers, error bodies."""
