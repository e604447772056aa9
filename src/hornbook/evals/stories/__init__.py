"""Stories graded by rule over a world whose truth is known, and by any judge (TinyStories)."""
