"""The two sweeps put together, and the verb `extract`."""
