"""CLIP models with a dense read-out."""
