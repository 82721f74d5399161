"""An untrusted file to a `LoadedModel` in bounded time and memory, or one clear error."""
