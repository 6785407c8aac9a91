"""What a handler sees and writes: `ctx`, its buffered draft, its inputs, its blocking and ambient forms."""
