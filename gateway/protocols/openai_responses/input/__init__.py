"""What a Responses request brings: input items, their content, and tools."""
