"""What people see of a running engine: logs and run records."""
