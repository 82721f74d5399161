"""The JSON document of a scored model, and the views made from it."""
