"""Training: datasets reinforced by teachers, students of them, towers that win back what precision costs."""
