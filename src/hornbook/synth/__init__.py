"""Teacher-written data: stories, textbooks, exercises, word problems, dialogue."""
