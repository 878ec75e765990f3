"""What operators tell users: incidents on the status page, and banners."""
