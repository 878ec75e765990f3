"""Chat requests in the form that each dialect of the OpenAI wire takes."""
