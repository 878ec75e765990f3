"""
A demo upstream that ships with the gateway: both dialects, believable streams, no model.

It lets a new operator see the whole gateway work without an account anywhere, and gives the tests
an upstream that does what a prompt tells it to. Start reading at `script.read`.
"""
