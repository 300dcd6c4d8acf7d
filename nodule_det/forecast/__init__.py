"""What a training will do and take, before it starts: steps, views of a lesion, memory, hours."""
