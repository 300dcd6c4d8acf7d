"""Views of a study for a terminal."""
