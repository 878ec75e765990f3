"""The sections about what is kept: of calls for later requests, and in which stores."""
