"""One attempt: which step a message is for, the call, the outcome, the one commit."""
