"""The operators' API below `/admin/`: a separate ASGI application, without pages and cookies."""
