"""The operators' API below `/admin/`: an ASGI application of its own, without pages and cookies."""
