"""Terminal views of documents, one module each: some need libraries that others do not. No torch."""
