"""Theory: papers that explain why small models learn, as algorithms. Imports torch and numpy alone."""
