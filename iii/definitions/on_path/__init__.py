"""A folder on the sys.path of each process that loads steps, and so of the processes that it spawns."""
