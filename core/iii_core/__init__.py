"""The native core of iii."""
