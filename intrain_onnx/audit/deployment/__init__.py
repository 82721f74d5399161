"""What a runtime needs for a model: versions, memory, time, providers; where the file comes from."""
