"""Training: datasets reinforced by teachers, students of them, towers that win back the accuracy lost to a
precision."""
