"""Load tests: `python bench/run.py`. README.md explains the method."""
