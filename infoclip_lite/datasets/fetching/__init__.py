"""Fetch, unpack and verify official data sets."""
