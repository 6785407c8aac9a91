"""Values and texts from outside: units, YAML, JSON, patches, filters, cron. Each knows only its own form."""
