"""The pages: what people see, and what describes the APIs to programs."""
