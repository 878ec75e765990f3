"""The base of all pages: routing by access, rendering, forms, security headers, static files."""
