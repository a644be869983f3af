"""Figures and explorers."""
