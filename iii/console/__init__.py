"""The console: what runs here, seen and changed from a browser. Its own port, its own JSON API, no say in
the work."""
