"""MATH²: skills, questions of two skills in five steps, students, and the square law."""
