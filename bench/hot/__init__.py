"""The hot path of one worker in one process, for `bench.parts`."""
