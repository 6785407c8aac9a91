"""One kind of outside event each, turned into committed work: messages, state changes, cron ticks."""
