"""The wire of OpenAI Responses, served over chat completions."""
