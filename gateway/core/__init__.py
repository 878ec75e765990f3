"""
Pure decisions: values in, values out.

Nothing here awaits, tells the time, draws, logs or reads the environment; `now` comes in.
"""
