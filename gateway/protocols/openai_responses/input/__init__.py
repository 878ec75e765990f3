"""Translates the input items of a Responses request, their content, and its tools."""
