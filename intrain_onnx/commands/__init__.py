"""One file a command. Each parses, calls and prints; heavy imports wait inside it."""
