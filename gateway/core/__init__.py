"""
Pure domain logic: values in, values out.

Nothing here awaits, reads a clock, draws random numbers, logs or reads the environment.
"""
