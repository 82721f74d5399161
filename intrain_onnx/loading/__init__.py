"""Load an untrusted file as a `LoadedModel` in bounded time and memory, or raise one clear error."""
