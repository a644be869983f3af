"""What makes a course of the notebooks: exercises, student versions, sources."""
