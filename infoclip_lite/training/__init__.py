"""Recipes, tasks, one loop."""
