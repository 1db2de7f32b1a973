"""Numbers on grids: what a stored weight can be, how it is put there, read back, and learned."""
