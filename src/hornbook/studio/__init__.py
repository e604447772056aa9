"""The studio: web pages in which the work can be seen and steered. No algorithm lives here."""
