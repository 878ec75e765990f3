"""The health of deployments that workers share through Redis."""
