"""HTTP as both dialects use it: headers, model lists, requests and errors."""
