"""HTTP in front of steps. endpoint.py is the door: `Endpoint(Request) -> Answer`, free of any transport."""
