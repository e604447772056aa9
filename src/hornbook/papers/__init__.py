"""Recipes: one module a paper, each a dozen calls to steps and then the claims."""
