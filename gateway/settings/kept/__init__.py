"""The sections about stored data: outcomes and responses of calls, and the stores."""
