"""What all pages share: routing by access, rendering, forms, security headers, static files."""
