"""What a person sees of a study on a terminal."""
