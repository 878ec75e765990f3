"""The input of a Responses request, read as a chat history."""
