"""The wire of OpenAI Chat Completions: request and response types, and the writer of its chunks."""
