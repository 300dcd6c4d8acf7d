"""The asynchronous loop: collect results, poll, stop, submit."""
