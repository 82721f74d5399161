"""The JSON document of a scored model, and what is made of it."""
